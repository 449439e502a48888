"""What `ps` and `top` show of a shim's processes."""

from __future__ import annotations

import os
from contextlib import suppress

from runtime.errors import KernelFailure
from runtime.kernel import procfs, syscalls

IN_RESERVE = "spare"


def become_init() -> None:
    """Of a container's `--init`, which stays what it was forked from: this program."""
    with suppress(OSError, KernelFailure, ValueError, IndexError):
        procfs.set_command_line("init")
        syscalls.set_thread_name("init")


def set_name(whose: str) -> None:
    """The id of its container, or what it is for."""
    with suppress(OSError):
        fd = os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, f"slw-{whose[:11]}".encode())
        os.close(fd)
