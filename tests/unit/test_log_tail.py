"""The end of a container's output as it came."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.store import log_tail
from runtime.store.log_tail import output_tail
from runtime.store.logs import STDERR, STDOUT, LogWriter

ALL = 1 << 62


@pytest.fixture
def writer(tmp_path: Path) -> LogWriter:
    return LogWriter(str(tmp_path), 4096, 3)


def test_bytes_come_as_they_were_written(writer: LogWriter, tmp_path: Path) -> None:
    chunks = [(STDOUT, b"one\r\ntw"), (STDERR, b"\x1b[31mred\n"), (STDOUT, b"o\r\n$ ")]
    for time, (stream, data) in enumerate(chunks, 1):
        writer.write(stream, data, time)
    assert output_tail(tmp_path, until=ALL, lines=100) == [
        ("stdout", b"one\r\ntw"), ("stderr", b"\x1b[31mred\n"), ("stdout", b"o\r\n$ ")
    ]  # fmt: skip
    assert output_tail(tmp_path, until=2, lines=100)[-1] == ("stderr", b"\x1b[31mred\n")


@pytest.mark.parametrize(
    ("lines", "end"),
    [(0, b""), (1, b"d\n"), (2, b"c\nd\n"), (4, b"a\nb\nc\nd\n"), (9, b"a\nb\nc\nd\n")],
)
def test_so_many_lines_and_no_more(
    writer: LogWriter, tmp_path: Path, lines: int, end: bytes
) -> None:
    for time, data in enumerate((b"a\nb", b"\nc\n", b"d\n"), 1):
        writer.write(STDOUT, data, time)
    assert b"".join(d for _, d in output_tail(tmp_path, until=ALL, lines=lines)) == end


def test_several_files_are_one_log(writer: LogWriter, tmp_path: Path) -> None:
    for number in range(1, 20):
        writer.write(STDOUT, b"%d %s\n" % (number, b"x" * 1000), number)
    got = b"".join(d for _, d in output_tail(tmp_path, until=ALL, lines=7))
    assert [int(line.split()[0]) for line in got.splitlines()] == list(range(13, 20))


def test_a_log_without_lines_is_bounded(
    writer: LogWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_tail, "LIMIT", 2000)
    for time in range(1, 20):
        writer.write(STDOUT, b"x" * 500, time)
    assert sum(len(d) for _, d in output_tail(tmp_path, until=ALL, lines=10)) == 2000


def test_no_log_is_an_empty_one(tmp_path: Path) -> None:
    assert output_tail(tmp_path / "none", until=ALL, lines=10) == []
