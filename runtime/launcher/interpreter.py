"""The interpreter that becomes processes of containers, on a mount that they can neither write to nor execute from.

Until its execve a container's process is a fork of ours: to execute `/proc/self/exe`, which an image's command,
`#!` line or ELF interpreter may name, is to run this host's Python inside, and through the new `/proc/self/exe`
to hold the file (CVE-2019-5736). A copy in memory, as runc makes, would cost each launcher 7 MB.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NoReturn

from runtime.errors import KernelFailure
from runtime.kernel import constants as c
from runtime.kernel import syscalls


def execute_sealed(executable: str, arguments: Sequence[str]) -> NoReturn:
    """Execute it from a mount of its own, which is read-only. The descriptor of that mount, to be given to
    `forbid_execution`, is added to `arguments`; -1 when this host lets us make none. Raises OSError.
    """
    path = os.path.realpath(executable)
    try:
        tree, program = _open_sealed(path)
    except (KernelFailure, OSError) as error:
        told = f"launcher: containers with the host's ids could change {path}: {error}\n"
        os.write(2, told.encode())
        os.execv(executable, [executable, *arguments, "-1"])
    os.set_inheritable(tree, True)
    os.execve(program, [executable, *arguments, str(tree)], os.environ)


def forbid_execution(tree: int) -> None:
    """Nobody else executes from the mount, from now on. Closes the descriptor."""
    if tree >= 0:
        try:
            syscalls.mount_setattr(tree, "", attr_set=c.MOUNT_ATTR_NOEXEC)
        finally:
            os.close(tree)


def _open_sealed(path: str) -> tuple[int, int]:
    """(a copy of the mount with the file at `path`, the file there). Raises KernelFailure, OSError."""
    # The root's whole mount, so that the program is found at its own path: libraries may lie relative to it.
    at = "/" if os.stat(path).st_dev == os.stat("/").st_dev else path
    tree = syscalls.open_tree(at, c.OPEN_TREE_CLONE | c.OPEN_TREE_CLOEXEC)
    try:
        syscalls.mount_setattr(tree, "", attr_set=c.MOUNT_ATTR_RDONLY)
        if at == path:
            return tree, os.dup(tree)
        return tree, syscalls.openat2(
            tree, path.lstrip("/"), c.O_PATH | os.O_CLOEXEC, resolve=c.RESOLVE_IN_ROOT
        )
    except BaseException:
        os.close(tree)
        raise
