"""The log store: chunks in, lines out, within its budget of bytes."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from runtime.store.logs import STDERR, STDOUT, LogWriter, follow_logs, numbers, read_logs


def _writer(path: Path, max_size: int = 1 << 20, max_files: int = 3) -> LogWriter:
    return LogWriter(str(path), max_size, max_files)


def test_lines_are_put_together_from_chunks_and_streams_stay_apart(tmp_path: Path) -> None:
    writer = _writer(tmp_path)
    writer.write(STDOUT, b"one\ntw")
    writer.write(STDERR, b"oops\n")
    writer.write(STDOUT, b"o\nlast")
    writer.close()
    assert [(x.stream, x.data) for x in read_logs(tmp_path)] == [
        ("stdout", b"one"),
        ("stderr", b"oops"),
        ("stdout", b"two"),
        ("stdout", b"last"),
    ]
    assert [x.data for x in read_logs(tmp_path, streams={"stderr"})] == [b"oops"]
    assert [x.data for x in read_logs(tmp_path, tail=2)] == [b"two", b"last"]


def test_old_files_go_when_the_budget_is_spent(tmp_path: Path) -> None:
    writer = _writer(tmp_path, max_size=4096, max_files=2)
    for i in range(1000):
        writer.write(STDOUT, b"line %04d\n" % i)
    writer.close()
    assert sum(f.stat().st_size for f in tmp_path.iterdir()) <= 2 * 4096 + 64
    lines = [x.data for x in read_logs(tmp_path)]
    assert lines[-1] == b"line 0999"
    assert lines[0] != b"line 0000"


def test_a_torn_record_is_cut_off_and_the_file_goes_on(tmp_path: Path) -> None:
    writer = _writer(tmp_path)
    writer.write(STDOUT, b"whole\n")
    writer.close()
    (file,) = tmp_path.iterdir()
    with file.open("ab") as raw:
        raw.write(b"\x01\x02\x03torn")
    writer = _writer(tmp_path)
    writer.write(STDOUT, b"after\n")
    writer.close()
    assert len(numbers(tmp_path)) == 1
    assert [x.data for x in read_logs(tmp_path)] == [b"whole", b"after"]


def test_a_long_line_comes_in_parts(tmp_path: Path) -> None:
    writer = _writer(tmp_path)
    writer.write(STDOUT, b"x" * 100_000 + b"\n")
    writer.close()
    lines = list(read_logs(tmp_path))
    assert [x.partial for x in lines] == [True, False]
    assert sum(len(x.data) for x in lines) == 100_000


def test_following_survives_rotation(tmp_path: Path) -> None:
    writer = _writer(tmp_path, max_size=4096, max_files=100)
    writer.write(STDOUT, b"first\n")
    stop, seen, enough = threading.Event(), [], threading.Event()

    def follow() -> None:
        for line in follow_logs(tmp_path, stop=stop):
            seen.append(line.data)
            if len(seen) == 501:
                enough.set()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    for i in range(500):
        writer.write(STDOUT, b"%d\n" % i)
    assert enough.wait(10)
    stop.set()
    thread.join(5)
    writer.close()
    assert seen == [b"first", *(b"%d" % i for i in range(500))]


def test_a_full_disk_costs_lines_not_the_writer() -> None:
    writer = LogWriter.__new__(LogWriter)
    writer._directory, writer._max_size, writer._budget = "/dev", 4096, 4096
    writer._number, writer._size, writer.lost = 0, 0, 0
    writer._fd = os.open("/dev/full", os.O_WRONLY)
    writer.write(STDOUT, b"gone\n")
    assert writer.lost == 5
    writer.close()


@pytest.mark.parametrize("call", ["listdir", "unlink", "stat"])
def test_a_disk_that_lets_nothing_be_looked_at_costs_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    writer = _writer(tmp_path, max_size=4096, max_files=1)
    with monkeypatch.context() as broken:
        broken.setattr(os, call, fail)
        for number in range(3):
            writer.write(STDOUT, b"%d" % number + b"x" * 4096 + b"\n")
    assert [line.data[:1] for line in read_logs(tmp_path)] == [b"0", b"1", b"2"]
    writer.write(STDOUT, b"3\n")
    writer.close()
    assert [line.data[:1] for line in read_logs(tmp_path)] == [b"3"]
