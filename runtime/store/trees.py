"""Directory trees that somebody else has filled: a container, an archive. Deleted whatever they hold.

shutil.rmtree recurses and keeps a descriptor open per level: a thousand directories in each other, which
any process can make in a loop, end it with RecursionError.
"""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from pathlib import Path

_DEEP = 64  # levels; what lies deeper is first moved up
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: Path | str) -> None:
    """Delete `path` and all below it, following no link; nothing is wrong when it is not there.

    Somebody else may be deleting the same tree. Raises OSError for what resists.
    """
    name = os.fspath(path)
    try:
        top = os.open(name, _OPEN)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        with suppress(FileNotFoundError):
            os.unlink(name)
        return
    try:
        while _empty(top, top, 0):
            pass  # what was moved up is next
        with suppress(FileNotFoundError):
            os.rmdir(name)
    finally:
        os.close(top)


def _empty(top: int, directory: int, depth: int) -> bool:
    """Delete what is in `directory`. True when something that lies too deep was moved to `top`."""
    moved = False
    with os.scandir(directory) as listing:
        entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in listing]
    for name, is_directory in entries:
        with suppress(FileNotFoundError):
            if not is_directory:
                os.unlink(name, dir_fd=directory)
            elif not _remove_empty(name, directory):
                if depth == _DEEP:
                    aside = f".deep-{secrets.token_hex(8)}"
                    os.rename(name, aside, src_dir_fd=directory, dst_dir_fd=top)
                    moved = True
                    continue
                below = os.open(name, _OPEN, dir_fd=directory)
                try:
                    moved = _empty(top, below, depth + 1) or moved
                finally:
                    os.close(below)
                os.rmdir(name, dir_fd=directory)
    return moved


def _remove_empty(name: str, parent: int) -> bool:
    """Delete the directory unless something is in it; True when it is gone."""
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True
