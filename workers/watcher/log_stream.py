"""Log lines from a reading thread to an asyncio task, with a bounded buffer between them.

The reader blocks in inotify or on a full buffer, never on the event loop; the writer takes whatever has
gathered, so that a fast log costs a message per batch and not per line.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from runtime.store.logs import LogLine

MAX_LINES = 2000
MAX_BYTES = 1 << 20
BATCH_LINES = 500  # one message's worth: a browser paints it in one frame

Line = dict[str, Any]


def line_data(line: LogLine) -> Line:
    """{"time" RFC 3339 with microseconds, "stream", "text"} and "partial" when the line goes on."""
    time = datetime.fromtimestamp(line.time, UTC).isoformat(timespec="microseconds")
    data: Line = {
        "time": time.replace("+00:00", "Z"),
        "stream": line.stream,
        "text": line.data.decode("utf-8", "replace"),
    }
    if line.partial:
        data["partial"] = True
    return data


class LogPump:
    """One reader thread's lines, for one asyncio task.

    `read` gets a function that tells whether to stop and returns the lines; it runs in a thread.
    """

    def __init__(self, read: Callable[[threading.Event], Iterator[LogLine]]) -> None:
        self._read = read
        self._loop = asyncio.get_running_loop()
        self._filled = asyncio.Event()
        self._lines: deque[LogLine] = deque()
        self._bytes = 0
        self._room = threading.Condition()
        self._stop = threading.Event()
        self._done = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="logs", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Tell the reader to stop; it ends at its next line or its next look at the flag."""
        self._stop.set()
        with self._room:
            self._room.notify()

    async def batch(self) -> list[Line] | None:
        """The lines that have gathered, at least one, or None at the end. Raises what the reader raised."""
        while True:
            with self._room:
                count = min(len(self._lines), BATCH_LINES)
                lines = [self._lines.popleft() for _ in range(count)]
                self._bytes -= sum(len(line.data) for line in lines)
                done = self._done
                if not self._lines:
                    self._filled.clear()
                self._room.notify()
            if lines:
                return [line_data(line) for line in lines]
            if done:
                if self._error is not None:
                    raise self._error
                return None
            await self._filled.wait()

    def _run(self) -> None:
        try:
            for line in self._read(self._stop):
                with self._room:
                    while self._full() and not self._stop.is_set():
                        self._room.wait()
                    if self._stop.is_set():
                        break
                    was_empty = not self._lines
                    self._lines.append(line)
                    self._bytes += len(line.data)
                if was_empty:
                    self._wake()
        except Exception as error:  # noqa: BLE001 - handed to the task, which knows whom to tell
            self._error = error
        finally:
            with self._room:
                self._done = True
            self._wake()

    def _full(self) -> bool:
        return len(self._lines) >= MAX_LINES or self._bytes >= MAX_BYTES

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._filled.set)
        except RuntimeError:
            # The loop is closed: nobody is left to read.
            self._stop.set()
