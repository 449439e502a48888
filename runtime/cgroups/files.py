"""Reading and writing the kernel's small files without the cost of buffered objects."""

from __future__ import annotations

import os
import time

SIZE = 16384  # larger than any control file of one group but io.stat on huge hosts


def read(path: str) -> str:
    """The whole file. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(fd, SIZE)
        if len(data) == SIZE:
            while chunk := os.read(fd, SIZE):
                data += chunk
        return data.decode()
    finally:
        os.close(fd)


def look(path: str) -> str:
    """The whole file, "" when it cannot be read, or `path` is ""."""
    try:
        return read(path) if path else ""
    except OSError:
        return ""


def write(path: str, value: str) -> None:
    """One write, as control files want it. Raises OSError with the path."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(fd)


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
