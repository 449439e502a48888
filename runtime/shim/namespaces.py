"""The namespaces init is forked into; its network's outlives it, for the next start."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from runtime.errors import KernelFailure
from runtime.kernel import constants as c
from runtime.kernel import syscalls

if TYPE_CHECKING:
    from runtime.model.plan import Plan


class Namespaces:
    """`net` is a descriptor of the container's network namespace, or -1 for the host's."""

    def __init__(self, plan: Plan, net: int = -1) -> None:
        self._plan = plan
        self.net = net
        mode = plan["namespaces"]["network"]
        if net >= 0 or mode == "host":
            return
        if mode == "own":
            syscalls.unshare(c.CLONE_NEWNET)
            self.net = _open_namespace("net")
        else:
            self.net = _open_namespace("net", mode.removeprefix("pid:"))

    def fork(self) -> int:
        """Fork a child of the monitor, our parent, into these namespaces. Our own change for good."""
        mode = self._plan["namespaces"]["pid"]
        try:
            if self.net >= 0:
                syscalls.setns(self.net, c.CLONE_NEWNET)
            if mode == "own":
                syscalls.unshare(c.CLONE_NEWPID)
            elif mode.startswith("pid:"):
                fd = _open_namespace("pid", mode.removeprefix("pid:"))
                syscalls.setns(fd, c.CLONE_NEWPID)
                os.close(fd)
            return syscalls.fork_sibling()
        except OSError as error:
            raise KernelFailure("fork", error.errno or 0) from error


def _open_namespace(kind: str, pid: str = "self") -> int:
    return os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
