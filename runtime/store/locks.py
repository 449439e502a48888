"""Locks between processes: flock on files below Config.locks. The kernel drops them when a holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.errors import LockTimeout

_TRIES = 3  # not every error comes again


@contextmanager
def locked(path: Path, *, timeout: float = 30.0, shared: bool = False) -> Iterator[int]:
    """Hold the lock named by `path`; threads of one process exclude each other as processes do.

    Yields its descriptor: a process that inherits it holds the lock as well, until it ends. Raises LockTimeout
    (retryable) after `timeout` seconds. The file stays until `discard`.
    """
    fd = _acquire(path, timeout, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    try:
        yield fd
    finally:
        os.close(fd)


def discard(path: Path) -> None:
    """Remove a lock's file, for its holder when the object it guards is gone. Never raises: that is done."""
    for _ in range(_TRIES):
        try:
            path.unlink(missing_ok=True)
            return
        except OSError:
            continue


def _acquire(path: Path, timeout: float, how: int) -> int:
    deadline = time.monotonic() + timeout
    pause = 0.001
    while True:
        fd = _open(path)
        try:
            fcntl.flock(fd, how | fcntl.LOCK_NB)
            # A holder may have discarded the file while we waited: that lock guards nothing any more.
            if _same_file(fd, path):
                return fd
            os.close(fd)
            continue
        except BlockingIOError:
            os.close(fd)
        except BaseException:
            os.close(fd)
            raise
        if time.monotonic() >= deadline:
            raise LockTimeout(
                f"Something else has been working on {path.stem[:12]} for {timeout:g} s.",
                hint="Wait until the operation that runs has finished.",
                path=str(path),
            )
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return os.open(path, flags, 0o600)


def _same_file(fd: int, path: Path) -> bool:
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    here = os.fstat(fd)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
