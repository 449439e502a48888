"""Output that never waits for the disk (`docker run --log-opt mode=non-blocking`).

Imported only by the monitors that are asked for it: a thread of its own writes what the poll loop puts into
a bounded queue. What does not fit is dropped by whole lines and counted, and the log says how many.
"""

from __future__ import annotations

import _thread
import time as clock
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.store.logs import LogWriter

CLOSE_TIMEOUT = 5.0  # seconds for the disk to take what is queued when the container has ended


class BufferedLog:
    """A LogWriter that answers at once. `write` and `close` are for one thread; another one writes."""

    def __init__(self, writer: LogWriter, limit: int) -> None:
        """`limit` is the number of bytes that may wait."""
        self._writer = writer
        self._limit = limit
        self._queue: deque[tuple[int, int, bytes] | None] = deque()
        # Each is changed by one thread only, so that neither needs a lock.
        self._taken = 0  # bytes put into the queue
        self._written = 0  # bytes that the writer has been given
        self._dropped: dict[int, tuple[int, int]] = {}  # stream -> (lines, bytes), not yet said
        self._open: set[int] = set()  # streams whose last kept byte is no newline
        self._within: set[int] = set()  # streams whose last dropped byte is none
        self._wake = _thread.allocate_lock()
        self._wake.acquire()
        self._ended = _thread.allocate_lock()
        self._ended.acquire()
        _thread.start_new_thread(self._run, ())

    def write(self, stream: int, data: bytes) -> None:
        """One chunk, queued or dropped."""
        if stream in self._dropped:
            data = self._resumed(stream, data)
        if not data:
            return
        if self._taken - self._written + len(data) > self._limit:
            self._drop(stream, data)
            return
        self._confess(stream)
        self._put(stream, data)

    def close(self) -> None:
        """Say what was dropped, and wait for the writer, but not for ever."""
        for stream in list(self._dropped):
            self._confess(stream)
        self._queue.append(None)
        self._notify()
        if self._ended.acquire(timeout=CLOSE_TIMEOUT):
            self._writer.close()

    def _resumed(self, stream: int, data: bytes) -> bytes:
        """The chunk without the rest of a line whose beginning is gone."""
        if stream not in self._within:
            return data
        end = data.find(b"\n") + 1
        self._drop(stream, data[: end or len(data)])
        return data[end:] if end else b""

    def _drop(self, stream: int, data: bytes) -> None:
        lines, size = self._dropped.get(stream, (0, 0))
        self._dropped[stream] = (lines + data.count(b"\n"), size + len(data))
        if data.endswith(b"\n"):
            self._within.discard(stream)
        else:
            self._within.add(stream)

    def _confess(self, stream: int) -> None:
        if stream not in self._dropped:
            return
        lines, size = self._dropped.pop(stream)
        lines += stream in self._within
        self._within.discard(stream)
        begin = "\n" if stream in self._open else ""
        what = f"{lines} line{'' if lines == 1 else 's'} ({size} bytes)"
        text = f"{begin}[slipway: {what} dropped here: the disk was slower than the output]\n"
        self._put(stream, text.encode())

    def _put(self, stream: int, data: bytes) -> None:
        if data.endswith(b"\n"):
            self._open.discard(stream)
        else:
            self._open.add(stream)
        self._taken += len(data)
        self._queue.append((clock.time_ns(), stream, data))
        self._notify()

    def _notify(self) -> None:
        # Only this side releases, so it cannot be released in between.
        if self._wake.locked():
            self._wake.release()

    def _run(self) -> None:
        while True:
            while self._queue:
                entry = self._queue.popleft()
                if entry is None:
                    self._ended.release()
                    return
                time, stream, data = entry
                self._writer.write(stream, data, time)
                self._written += len(data)
            self._wake.acquire()
