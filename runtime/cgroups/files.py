"""Reading and writing the kernel's small files without the cost of buffered objects."""

from __future__ import annotations

import os
import threading
import time

_SIZE = 16384  # larger than any control file of one group but io.stat on huge hosts
_KEPT = 8192  # open files at most
_UNUSED = 30.0  # seconds after which a file that nobody reads is closed


def read(path: str) -> str:
    """The whole file. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(fd, _SIZE)
        if len(data) == _SIZE:
            while chunk := os.read(fd, _SIZE):
                data += chunk
        return data.decode()
    finally:
        os.close(fd)


def write(path: str, value: str) -> None:
    """One write, as control files want it. Raises OSError with the path."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(fd)


class KeptFiles:
    """Reads files again and again without opening them again: a third of the time that `read` takes.

    An open control file does not hold its group: it can be removed, and reading then fails. Thread-safe.
    """

    def __init__(self) -> None:
        self._open: dict[str, list[int]] = {}  # path -> [fd, round of its last use]
        self._lock = threading.Lock()
        self._round = 0
        self._swept = time.monotonic()

    def read(self, path: str) -> str:
        """The whole file as it is now. Raises OSError."""
        with self._lock:
            kept = self._open.get(path)
            if kept is None:
                self._sweep()
                if len(self._open) >= _KEPT:
                    return read(path)
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                kept = self._open[path] = [fd, self._round]
            kept[1] = self._round
            try:
                data = os.pread(kept[0], _SIZE, 0)
            except OSError:
                # The group is gone; one of the same name may be there.
                os.close(self._open.pop(path)[0])
                return read(path)
        return data.decode() if len(data) < _SIZE else read(path)

    def close(self) -> None:
        with self._lock:
            for fd, _ in self._open.values():
                os.close(fd)
            self._open.clear()

    def _sweep(self) -> None:
        """Close what was not read in the last round; a new round begins now and then."""
        now = time.monotonic()
        if now - self._swept < _UNUSED:
            return
        self._swept = now
        for path in [p for p, kept in self._open.items() if kept[1] < self._round]:
            os.close(self._open.pop(path)[0])
        self._round += 1


def make(path: str) -> bool:
    """mkdir; False when it was there."""
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        return False
    return True


def subdirectories(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [e.path for e in entries if e.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def remove_tree(path: str, *, timeout: float = 2.0) -> None:
    """rmdir a group and those below it; a group whose last process is just dying is retried.

    Raises OSError (EBUSY) when processes stay longer than `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    pause = 0.0005
    while True:
        try:
            os.rmdir(path)
        except FileNotFoundError:
            return
        except OSError:
            for child in subdirectories(path):
                remove_tree(child, timeout=max(0.0, deadline - time.monotonic()))
            if time.monotonic() >= deadline:
                raise
            time.sleep(pause)
            pause = min(pause * 2, 0.05)
        else:
            return
