"""What a container has changed in its root file system, as its writable layer says."""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runtime.engine.layers import MergedTree
from runtime.errors import KernelFailure, error_context
from runtime.kernel import syscalls
from runtime.kernel.constants import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS

_OPAQUE = "trusted.overlay.opaque"
# Removed or exchanged since, or so deep that it has no path.
_PASSED_OVER = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


@dataclass(frozen=True, slots=True)
class Change:
    path: str  # in the container, absolute
    kind: Literal["modified", "added", "deleted"]
    size: int | None = None  # bytes of a file as it is now


def changes(upper: Path, lower: MergedTree) -> Iterator[Change]:
    """As `docker diff`, directories before what is in them; volumes are not part of it.

    What comes and goes meanwhile is passed over, and so is what lies so deep that it has no path. A directory
    is opened without following any link: the container may exchange it for one. Raises KernelFailure.
    """
    with error_context("changes"):
        yield from _changes(upper, lower)


def _changes(upper: Path, lower: MergedTree) -> Iterator[Change]:
    root = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        ahead = deque(["."])
        while ahead:
            directory = ahead.popleft()
            try:
                flags = os.O_RDONLY | os.O_DIRECTORY
                resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
                fd = syscalls.openat2(root, directory, flags, resolve=resolve)
            except KernelFailure as error:
                if error.errno not in _PASSED_OVER:
                    raise
                continue
            try:
                for change, is_directory in _of(fd, directory.removeprefix("."), lower):
                    yield change
                    if is_directory:
                        ahead.append(change.path[1:])
            finally:
                os.close(fd)
    finally:
        os.close(root)


def changes_in(upper: Path, lower: MergedTree, directory: str) -> list[Change]:
    """Of what is directly in one directory, an absolute path without links; none where nothing has changed."""
    relative = directory.strip("/")
    root = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = syscalls.openat2(
            root,
            relative or ".",
            os.O_RDONLY | os.O_DIRECTORY,
            resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
        )
    except KernelFailure as error:
        if error.errno not in _PASSED_OVER:
            raise
        return []
    finally:
        os.close(root)
    try:
        return [change for change, _ in _of(fd, relative, lower)]
    finally:
        os.close(fd)


def _of(fd: int, directory: str, lower: MergedTree) -> Iterator[tuple[Change, bool]]:
    """The changes of one directory, given relative; whether each is a directory to look into."""
    prefix = f"{directory}/" if directory else ""
    names = sorted(os.listdir(fd))
    for name in names:
        try:
            facts = os.stat(name, dir_fd=fd, follow_symlinks=False)
            there = lower.find(prefix + name) is not None
        except OSError as error:
            if error.errno not in _PASSED_OVER:
                raise
            continue
        path = f"/{prefix}{name}"
        if stat.S_ISCHR(facts.st_mode) and facts.st_rdev == 0:
            if there:
                yield Change(path, "deleted"), False
            continue
        size = facts.st_size if stat.S_ISREG(facts.st_mode) else None
        yield Change(path, "modified" if there else "added", size), stat.S_ISDIR(facts.st_mode)
    if directory and _is_opaque(fd):
        for name in sorted(set(lower.names(directory)) - set(names)):
            yield Change(f"/{prefix}{name}", "deleted"), False


def _is_opaque(fd: int) -> bool:
    try:
        return os.getxattr(fd, _OPAQUE) == b"y"
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.ENOTSUP):
            raise
        return False
