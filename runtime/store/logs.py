"""A container's output on disk: written in chunks by its shim, read as lines by everybody else.

A file is a run of records: a 16-byte header (time in ns since 1970, payload length, stream) and the
bytes of one read() of the container's pipe. So writing costs one system call a chunk whatever the lines
in it, and stdout and stderr stay apart and in order. Files are numbered; the highest is being written;
the oldest go when all together exceed `max_size` × `max_files` bytes.

Standard library only: the shim imports the writer.
"""

from __future__ import annotations

import os
import select
import struct
import time as clock
from collections import deque
from collections.abc import Callable, Collection, Iterator
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    # Not at run time: the shim is forked with this module in it, and importing `threading` makes every
    # fork write to another 400 kB of its memory.
    import threading
    from pathlib import Path
    from typing import Any, Protocol

    class Sink(Protocol):
        """What a monitor gives output to."""

        def write(self, stream: int, data: bytes) -> None: ...

        def close(self) -> None: ...


STDOUT, STDERR = 1, 2
STREAMS = {STDOUT: "stdout", STDERR: "stderr"}
MAX_LINE = 64 * 1024  # bytes; a longer line comes in parts

_HEADER = struct.Struct("<QIB3x")
_SUFFIX = ".log"
_APPEND_BELOW = 64 * 1024  # bytes: a last file smaller than this is continued
_CHUNK = 1 << 20


class LogLine(NamedTuple):
    """One line: Unix seconds, "stdout" or "stderr", bytes without the newline; partial when it goes on."""

    time: float
    stream: str
    data: bytes
    partial: bool = False


class LogWriter:
    """Appends chunks. A disk that is full or broken costs log lines, never the container's life."""

    def __init__(self, directory: str, max_size: int, max_files: int) -> None:
        self._directory = directory
        self._max_size = max(max_size, 4096)
        self._budget = self._max_size * max(max_files, 1)
        self.lost = 0  # bytes that could not be written
        self._fd = -1
        self._size = 0
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self._number = self._continue_last()

    def write(self, stream: int, data: bytes, time: int = 0) -> None:
        """One record, of `time` (ns since 1970; 0: now). Rotates first when the file is full."""
        if self._size >= self._max_size or self._fd < 0:
            self._rotate()
        header = _HEADER.pack(time or clock.time_ns(), len(data), stream)
        try:
            written = os.writev(self._fd, (header, data))
        except OSError:
            written = 0
        if written == _HEADER.size + len(data):
            self._size += written
            return
        self.lost += len(data)
        if written > 0 or self._fd >= 0:
            self._cut()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _cut(self) -> None:
        # Part of a record would make everything after it unreadable.
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            self.close()

    def _rotate(self) -> None:
        self.close()
        self._number += 1
        self._open()
        try:
            self._remove_oldest()
        except OSError:
            pass  # the next time

    def _remove_oldest(self) -> None:
        """As many as are too many."""
        sizes = [(n, _size(_path(self._directory, n))) for n in numbers(self._directory)]
        total = sum(size for _, size in sizes) + self._max_size
        for number, size in sizes[:-1]:
            if total <= self._budget:
                break
            _unlink(_path(self._directory, number))
            total -= size

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            self._fd = os.open(_path(self._directory, self._number), flags, 0o600)
        except OSError:
            self._fd = -1
        self._size = 0

    def _continue_last(self) -> int:
        """Go on with a small last file, so that restart after restart does not scatter files."""
        existing = numbers(self._directory)
        last = existing[-1] if existing else 0
        if last:
            path = _path(self._directory, last)
            if 0 <= _size(path) < _APPEND_BELOW:
                whole = _whole_records(path)
                try:
                    os.truncate(path, whole)
                    self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
                    self._size = whole
                except OSError:
                    self._fd = -1
        return last


def open_log(directory: str, options: dict[str, Any]) -> Sink | None:
    """The log that a container's LogOptions (as JSON) ask for; None when it keeps none."""
    if options["driver"] == "none":
        return None
    writer = LogWriter(directory, options["max_size"], options["max_files"])
    if not options["non_blocking"]:
        return writer
    from runtime.store.buffered_logs import BufferedLog  # noqa: PLC0415 - what few containers use

    return BufferedLog(writer, options["max_buffer"])


def _whole_records(path: str) -> int:
    """Bytes up to the last complete record: a crash may have torn the end."""
    with open(path, "rb") as file:
        data = file.read(_APPEND_BELOW)
    offset = 0
    while offset + _HEADER.size <= len(data):
        length = _HEADER.unpack_from(data, offset)[1]
        if offset + _HEADER.size + length > len(data):
            break
        offset += _HEADER.size + length
    return offset


def numbers(directory: str | Path) -> list[int]:
    """Numbers of the log files, oldest first; [] when there is no directory."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return sorted(int(n[: -len(_SUFFIX)]) for n in names if n.endswith(_SUFFIX) and n[0].isdigit())


def records(directory: str | Path, number: int) -> Iterator[tuple[int, int, bytes]]:
    """(ns since 1970, stream, bytes) of one file, up to where it is whole; none when it is gone."""
    try:
        with open(_path(directory, number), "rb") as file:
            while len(header := file.read(_HEADER.size)) == _HEADER.size:
                time, length, stream = _HEADER.unpack(header)
                data = file.read(length)
                if len(data) < length:
                    return
                yield time, stream, data
    except FileNotFoundError:
        return


def _path(directory: str | Path, number: int) -> str:
    return f"{directory}/{number:08d}{_SUFFIX}"


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


class LogReader:
    """Reads on from where it stopped: `lines()` yields what is complete now and may be called again."""

    def __init__(self, directory: str | Path, *, start: int = 0) -> None:
        self._directory = directory
        self._number = start
        self._offset = 0
        self._pending: dict[int, tuple[int, bytes]] = {}  # stream -> (time ns, bytes)

    def lines(self) -> Iterator[LogLine]:
        for number in numbers(self._directory):
            if number < self._number:
                continue
            if number > self._number:
                self._number, self._offset = number, 0
            yield from self._file(_path(self._directory, number))

    def rest(self, *, partial: bool = False) -> Iterator[LogLine]:
        """What has no newline yet: the last words of a container that has ended, or a prompt."""
        pending, self._pending = sorted(self._pending.items()), {}
        for stream, (time, data) in pending:
            yield LogLine(time / 1e9, STREAMS[stream], data, partial)

    def _file(self, path: str) -> Iterator[LogLine]:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            while True:
                block = os.pread(fd, _CHUNK, self._offset)
                used = 0
                while used + _HEADER.size <= len(block):
                    time, length, stream = _HEADER.unpack_from(block, used)
                    end = used + _HEADER.size + length
                    if end > len(block):
                        break
                    payload = block[used + _HEADER.size : end]
                    used = end
                    # Before yielding: the caller may stop here and come back.
                    self._offset += _HEADER.size + length
                    yield from self._split(time, stream, payload)
                if used == 0:
                    return
        finally:
            os.close(fd)

    def _split(self, time: int, stream: int, payload: bytes) -> Iterator[LogLine]:
        name = STREAMS.get(stream, "stdout")
        started, before = self._pending.pop(stream, (time, b""))
        *lines, rest = (before + payload if before else payload).split(b"\n")
        for line in lines:
            yield from _parts(started / 1e9, name, line)
            started = time
        while len(rest) >= MAX_LINE:
            yield LogLine(started / 1e9, name, rest[:MAX_LINE], partial=True)
            rest = rest[MAX_LINE:]
        if rest:
            self._pending[stream] = (started, rest)


def _parts(time: float, stream: str, line: bytes) -> Iterator[LogLine]:
    while len(line) > MAX_LINE:
        yield LogLine(time, stream, line[:MAX_LINE], partial=True)
        line = line[MAX_LINE:]
    yield LogLine(time, stream, line.removesuffix(b"\r"))


def read_logs(
    directory: str | Path,
    *,
    since: float | None = None,
    until: float | None = None,
    tail: int | None = None,
    streams: Collection[str] = ("stdout", "stderr"),
) -> Iterator[LogLine]:
    """Lines on disk now, oldest first; the last `tail` of those that match. Times in Unix seconds."""
    reader = LogReader(directory, start=_start(directory, since, tail))
    yield from _first(reader, since, until, tail, streams, rest=True)


def follow_logs(
    directory: str | Path,
    *,
    since: float | None = None,
    until: float | None = None,
    tail: int | None = None,
    streams: Collection[str] = ("stdout", "stderr"),
    stop: threading.Event | None = None,
    ended: Callable[[], bool] | None = None,
    run_dir: str | Path | None = None,
) -> Iterator[LogLine]:
    """As `read_logs`, then every new line as it comes, until `stop` is set or the directory goes.

    With `ended` also until that is true, with everything that was written before it became so; it is asked
    whenever something changes in `run_dir`, and four times a second. What has no newline comes too, as a
    partial line, when nothing more follows for a quarter of a second. Looks at `stop` as often. Raises
    KernelFailure when the host is out of inotify instances.
    """
    # Here, as the writer does without them.
    from contextlib import suppress  # noqa: PLC0415

    from runtime.errors import KernelFailure  # noqa: PLC0415
    from runtime.kernel import inotify  # noqa: PLC0415

    path = str(directory)
    with inotify.Inotify() as watcher:
        gone = inotify.IN_DELETE_SELF
        if not os.path.isdir(path):
            os.makedirs(path, mode=0o700, exist_ok=True)
        watcher.add(path, inotify.IN_MODIFY | inotify.IN_CREATE | inotify.IN_MOVED_TO | gone)
        if run_dir is not None:
            with suppress(KernelFailure):  # it is made at the start; until then, the looks suffice
                watcher.add(str(run_dir), inotify.IN_MOVED_TO)
        # Asked before reading: what is written before the end is read after it.
        over = ended is not None and ended()
        reader = LogReader(path, start=_start(path, since, tail))
        yield from _first(reader, since, until, tail, streams, rest=over)
        while not over and (stop is None or not stop.is_set()):
            changed = bool(select.select([watcher], [], [], 0.25)[0])
            over = ended is not None and ended()
            if changed or over:
                over = over or any(mask & gone for _, mask, _ in watcher.read())
                lines = chain(reader.lines(), reader.rest() if over else ())
                yield from (li for li in lines if _matches(li, since, until, streams))
            else:
                # Nothing follows for now: a prompt, or the last words of what has ended.
                rest = reader.rest(partial=True)
                yield from (li for li in rest if _matches(li, since, until, streams))
            if until is not None and clock.time() > until:
                return


def _first(
    reader: LogReader,
    since: float | None,
    until: float | None,
    tail: int | None,
    streams: Collection[str],
    *,
    rest: bool,
) -> Iterator[LogLine]:
    lines = chain(reader.lines(), reader.rest() if rest else ())
    wanted = (li for li in lines if _matches(li, since, until, streams))
    yield from wanted if tail is None else deque(wanted, maxlen=max(tail, 0))


def _start(directory: str | Path, since: float | None, tail: int | None) -> int:
    """Number of the file to begin with: the newest that surely holds the last `tail` lines."""
    if tail is None or since is not None:
        return 0
    found = 0
    existing = numbers(directory)
    for number in reversed(existing):
        try:
            with open(_path(directory, number), "rb") as file:
                found += file.read().count(b"\n")
        except FileNotFoundError:
            continue
        # Headers hold newline bytes by chance, and another stream may be filtered out: be generous.
        if found > 4 * tail + 1000:
            return number
    return existing[0] if existing else 0


def _matches(
    line: LogLine, since: float | None, until: float | None, streams: Collection[str]
) -> bool:
    return (
        line.stream in streams
        and (since is None or line.time >= since)
        and (until is None or line.time <= until)
    )
