"""Idmapped mounts: a directory seen with other owners than its disk has (mount_setattr(2), MOUNT_ATTR_IDMAP)."""

from __future__ import annotations

import errno
import os

from runtime.errors import KernelFailure
from runtime.kernel import syscalls
from runtime.kernel.constants import (
    AT_EMPTY_PATH,
    AT_RECURSIVE,
    MOUNT_ATTR_IDMAP,
    MOVE_MOUNT_T_EMPTY_PATH,
    O_PATH,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_CLONE,
)

# Shown unmapped: their files are the kernel's, not somebody's data.
_OF_THE_KERNEL = frozenset({
    "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs",
    "fusectl", "mqueue", "nsfs", "proc", "pstore", "securityfs", "sysfs", "tracefs",
})  # fmt: skip


class IdsNotMapped(Exception):
    """A file system that has no idmapped mounts; the argument is its type."""


def map_ids(tree: int, userns: int, *, recursive: bool) -> None:
    """Show the files of a mount that is not attached yet with their ids as `userns` has them.

    Mounts below that cannot are left as they are, and so are the kernel's own file systems: what they show belongs
    to the host. Raises IdsNotMapped.
    """
    if recursive and _map(tree, userns, AT_RECURSIVE):
        return
    if not _map(tree, userns) and (fstype := _fstype(tree)) not in _OF_THE_KERNEL:
        raise IdsNotMapped(fstype)


def _map(tree: int, userns: int, below: int = 0) -> bool:
    """False for a file system that cannot, and for a mount that is mapped already: a map cannot be changed."""
    flags = AT_EMPTY_PATH | below
    try:
        syscalls.mount_setattr(tree, "", attr_set=MOUNT_ATTR_IDMAP, userns_fd=userns, flags=flags)
    except KernelFailure as error:
        if error.errno not in (errno.EINVAL, errno.EPERM):
            raise
        return False
    return True


def _fstype(tree: int) -> str:
    """The type of the file system of a mount that is not attached: by its device, as others show it."""
    facts = os.fstat(tree)
    device = f"{os.major(facts.st_dev)}:{os.minor(facts.st_dev)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.split()[2] == device:
                return line.split(" - ")[-1].split()[0]
    return "unknown"


def _fstypes_below(path: str) -> str:
    prefix = os.path.realpath(path) + "/"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        lines = [line for line in file if (line.split()[4] + "/").startswith(prefix)]
    return ", ".join(sorted({line.split(" - ")[-1].split()[0] for line in lines}))


def cover(path: str, userns: int) -> None:
    """Lay an idmapped view of the directory, with all mounts below, over itself.

    Raises OSError, KernelFailure; IdsNotMapped when one of them cannot.
    """
    directory = os.open(path, O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE
        tree = syscalls.open_tree("", flags, directory)
        try:
            if not _map(tree, userns, AT_RECURSIVE):
                alone = _map(tree, userns)  # then it is one of those below that cannot
                raise IdsNotMapped(_fstypes_below(path) if alone else _fstype(tree))
            syscalls.move_mount(tree, "", directory, MOVE_MOUNT_T_EMPTY_PATH)
        finally:
            os.close(tree)
    finally:
        os.close(directory)
