"""A log that never waits: whole lines are kept or counted, in order, whatever the disk does."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest

from runtime.store import buffered_logs
from runtime.store.buffered_logs import BufferedLog
from tests.support.waiting import wait_until


class SlowWriter:
    """A LogWriter whose disk stands still until `go`."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.got: list[tuple[int, bytes]] = []
        self.closed = False

    def write(self, stream: int, data: bytes, time: int) -> None:
        assert time > 0
        self.go.wait(10)
        self.got.append((stream, data))

    def close(self) -> None:
        self.closed = True

    def text(self, stream: int = 1) -> str:
        return b"".join(data for s, data in self.got if s == stream).decode()


@pytest.fixture
def writer() -> SlowWriter:
    return SlowWriter()


def log_of(writer: Any, limit: int) -> BufferedLog:
    return BufferedLog(writer, limit)


def test_a_disk_in_order_keeps_everything(writer: SlowWriter) -> None:
    writer.go.set()
    log = log_of(writer, 4096)
    for number in range(100):
        log.write(1 + number % 2, f"{number}\n".encode())
        wait_until(lambda: log._taken == log._written)
    log.close()
    assert writer.closed
    assert [data for _, data in writer.got] == [f"{n}\n".encode() for n in range(100)]


def test_what_does_not_fit_is_counted_by_whole_lines(writer: SlowWriter) -> None:
    log = log_of(writer, 100)
    log.write(1, b"a" * 40 + b"\n" + b"half")  # kept: a line, and the beginning of one
    log.write(1, b"x" * 80 + b"\ny")  # does not fit; ends within a line
    log.write(1, b"still y")
    log.write(2, b"other\n")  # another stream has its own account
    writer.go.set()
    wait_until(lambda: log._taken == log._written)
    log.write(1, b"end of y\nwhole\n")
    log.close()
    assert writer.text(2) == "other\n"
    lines = writer.text().splitlines()
    assert lines[:2] == ["a" * 40, "half"]
    assert lines[-1] == "whole"
    assert re.fullmatch(r"\[slipway: 2 lines \(\d+ bytes\) dropped here: .*\]", lines[2])
    assert str(80 + 2 + 7 + 9) in lines[2]


def test_the_end_is_said_and_not_waited_for(
    writer: SlowWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buffered_logs, "CLOSE_TIMEOUT", 0.05)
    log = log_of(writer, 10)
    log.write(1, b"0123456789")
    log.write(1, b"lost\n")
    log.close()
    assert not writer.closed
    writer.go.set()
    wait_until(lambda: "dropped" in writer.text())
    assert "1 line (5 bytes)" in writer.text()
