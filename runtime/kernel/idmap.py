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
    for below in (AT_RECURSIVE, 0) if recursive else (0,):
        try:
            syscalls.mount_setattr(
                tree, "", attr_set=MOUNT_ATTR_IDMAP, userns_fd=userns, flags=AT_EMPTY_PATH | below
            )
        except KernelFailure as error:
            # EPERM: mapped already, and a map cannot be changed.
            if error.errno not in (errno.EINVAL, errno.EPERM):
                raise
        else:
            return
    fstype = _fstype(tree)
    if fstype not in _OF_THE_KERNEL:
        raise IdsNotMapped(fstype)


def _fstype(tree: int) -> str:
    """The type of the file system of a mount that is not attached: by its device, as others show it."""
    facts = os.fstat(tree)
    device = f"{os.major(facts.st_dev)}:{os.minor(facts.st_dev)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.split()[2] == device:
                return line.split(" - ")[-1].split()[0]
    return "unknown"


def cover(path: str, userns: int) -> None:
    """Lay an idmapped view of the directory over itself. Raises KernelFailure, IdsNotMapped."""
    tree = syscalls.open_tree(path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE)
    try:
        map_ids(tree, userns, recursive=True)
        syscalls.move_mount(tree, path)
    finally:
        os.close(tree)
