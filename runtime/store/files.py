"""Files that are whole or absent: temporary file, fsync, rename, fsync of the directory."""

from __future__ import annotations

import json
import os
from _thread import get_ident  # threading itself would be carried by every shim
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path  # not at run time: every shim would carry it

_TRIES = 3  # of a removal: not every error comes again


def write_atomic(path: Path | str, data: bytes, *, mode: int = 0o644, durable: bool = True) -> None:
    """Replace `path` with `data` so that a reader or a crash sees the old or the new, never a part.

    `durable=False` leaves the fsyncs out: for files on tmpfs, or that a crash may take.
    Raises OSError.
    """
    path = os.fspath(path)
    directory = os.path.dirname(path) or "."
    temporary = f"{path}.{os.getpid()}-{get_ident()}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        if durable:
            os.fsync(fd)
        os.rename(temporary, path)
    except BaseException:
        _discard(temporary)
        raise
    finally:
        os.close(fd)
    if durable:
        fsync_directory(directory)


def _discard(temporary: str) -> None:
    """Raises nothing, for it must not take another exception's place. What is left after all is for `leftovers.sweep`,
    but not before we have ended.
    """
    for _ in range(_TRIES):
        try:
            os.unlink(temporary)
            return
        except FileNotFoundError:
            return  # a signal came just after the rename
        except OSError:
            continue


def fsync_directory(path: Path | str) -> None:
    fsync(path, os.O_DIRECTORY)


def fsync(path: Path | str, flags: int = 0) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_json(path: Path | str, value: Any, *, mode: int = 0o644, durable: bool = True) -> None:
    data = json.dumps(value, separators=(",", ":")).encode()
    write_atomic(path, data, mode=mode, durable=durable)


def read_json(path: Path | str) -> Any:
    """The JSON value in `path`. Raises FileNotFoundError, or ValueError when it is not JSON."""
    with open(path, "rb") as file:
        return json.loads(file.read())
