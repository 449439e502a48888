"""Detached trees of mounts: copied from what is mounted, given their flags while nobody sees them, laid on a target.

Sources and targets are descriptors, so that no path is looked up a second time. Source: open_tree(2),
mount_setattr(2), move_mount(2).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from runtime.kernel import constants as c
from runtime.kernel import syscalls

if TYPE_CHECKING:
    from runtime.model.plan import MountStep

_PROPAGATION = {"private": c.MS_PRIVATE, "shared": c.MS_SHARED, "slave": c.MS_SLAVE}
# MS_* and MOUNT_ATTR_* of these have the same values.
ATTRIBUTES = c.MS_RDONLY | c.MS_NOSUID | c.MS_NODEV | c.MS_NOEXEC


def takes_submounts(step: MountStep) -> bool:
    """A bind comes with the mounts below its source."""
    return bool(step.get("submounts") or step.get("recursive"))


def copy(source: int, *, recursive: bool) -> int:
    """Of the mount that `source` is in, from there on; with those below it when `recursive`. Raises KernelFailure."""
    flags = c.OPEN_TREE_CLONE | c.OPEN_TREE_CLOEXEC | c.AT_EMPTY_PATH
    return syscalls.open_tree("", flags | (c.AT_RECURSIVE if recursive else 0), source)


def copy_path(path: str, recursive: bool) -> int:
    """As `copy`, of what is at `path`, links followed."""
    flags = c.OPEN_TREE_CLONE | c.OPEN_TREE_CLOEXEC
    return syscalls.open_tree(path, flags | (c.AT_RECURSIVE if recursive else 0))


def copy_foreign(pid: int, path: str) -> int:
    """A copy of what the mount namespace of process `pid` has at `path`: go there, copy, come back.

    The kernel copies no mount of a namespace that one is not in. Raises KernelFailure, OSError.
    """
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    directory = os.open(".", c.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syscalls.setns(there, c.CLONE_NEWNS)
        try:
            flags = c.OPEN_TREE_CLONE | c.OPEN_TREE_CLOEXEC | c.AT_SYMLINK_NOFOLLOW
            return syscalls.open_tree(path, flags, c.AT_FDCWD)
        finally:
            syscalls.setns(own, c.CLONE_NEWNS)
            os.fchdir(directory)
    finally:
        for fd in (own, there, directory):
            os.close(fd)


def attach(tree: int, target: int, step: MountStep) -> None:
    """Give a copied tree the step's flags, mount it, close it. Raises KernelFailure.

    Flags and propagation are set while nobody sees the copy, and no path is looked up a second time: a
    container that shares the volume can neither write before it is read-only nor exchange the target.
    """
    try:
        set_attributes(tree, step)
        syscalls.move_mount(tree, "", target, c.MOVE_MOUNT_T_EMPTY_PATH)
    finally:
        os.close(tree)


def set_attributes(tree: int, step: MountStep) -> None:
    """The step's flags and propagation, for the mount whose root `tree` is and what is below it. Raises KernelFailure."""
    propagation = step.get("propagation") or "rprivate"
    kind = _PROPAGATION[propagation.removeprefix("r")]
    attributes = step.get("flags", 0) & ATTRIBUTES
    below = c.AT_RECURSIVE if propagation.startswith("r") else 0
    attributes_below = c.AT_RECURSIVE if step.get("recursive") else 0
    if attributes and (below == attributes_below or not takes_submounts(step)):
        flags = c.AT_EMPTY_PATH | below
        syscalls.mount_setattr(tree, "", attr_set=attributes, propagation=kind, flags=flags)
    else:
        syscalls.mount_setattr(tree, "", propagation=kind, flags=c.AT_EMPTY_PATH | below)
        if attributes:
            flags = c.AT_EMPTY_PATH | attributes_below
            syscalls.mount_setattr(tree, "", attr_set=attributes, flags=flags)


def put(tree: int, directory: int, name: str) -> None:
    """Mount a copied tree as it is, at a path that nobody else can have changed, and close it. Raises KernelFailure."""
    try:
        syscalls.move_mount(tree, name, directory)
    finally:
        os.close(tree)


def lay_over(source: int, target: int) -> None:
    """Mount the file that `source` is open on over the one that `target` is: no path is looked up."""
    attach(copy(source, recursive=False), target, {"kind": "bind", "target": ""})


def lay_copy_over(path: str) -> int:
    """Mount a copy of the tree at `path` over it. Returns a descriptor of the copy's root.

    What a less privileged mount namespace has inherited is locked: it can be neither moved nor pivoted
    into. A copy can (mount_namespaces(7), "Restrictions").
    """
    tree = syscalls.open_tree(path, c.OPEN_TREE_CLONE | c.OPEN_TREE_CLOEXEC | c.AT_RECURSIVE)
    try:
        syscalls.move_mount(tree, path)
    except BaseException:
        os.close(tree)
        raise
    return tree
