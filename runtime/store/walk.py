"""Walking a tree that somebody else changes meanwhile: a container's, who may put a link in a directory's place."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

from runtime.errors import KernelFailure
from runtime.kernel import syscalls
from runtime.kernel.constants import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def beneath(
    root: Path | str,
) -> Generator[tuple[str, os.DirEntry[str], os.stat_result], None, None]:
    """(directory it is in, relative to `root` and "" for that, entry, its own facts) of all below `root`.

    No link is followed, on no part of a path. What comes and goes meanwhile is passed over, and so is what lies so deep
    that it has no path (PATH_MAX, 4096 bytes). Raises OSError when `root` cannot be opened.
    """
    top = os.open(root, _OPEN)
    try:
        # Not os.walk: it recurses, and a container makes its directories as deep as it likes.
        ahead = [""]
        while ahead:
            directory = ahead.pop()
            try:
                fd = syscalls.openat2(
                    top, directory or ".", _OPEN, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
                )
            except KernelFailure:
                continue
            try:
                with os.scandir(fd) as listing:
                    for entry in listing:
                        try:
                            facts = entry.stat(follow_symlinks=False)
                        except OSError:
                            continue
                        if entry.is_dir(follow_symlinks=False):
                            ahead.append(f"{directory}/{entry.name}" if directory else entry.name)
                        yield directory, entry, facts
            except OSError:
                continue
            finally:
                os.close(fd)
    finally:
        os.close(top)
