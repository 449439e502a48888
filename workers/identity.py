"""Who claimed an operation, and what becomes of one whose workers die: the same for worker and watcher.

A worker is a process, named so that a later one with the same pid is somebody else.

A name is `<pid>.<start time>.<boot>`: the start time is field 22 of /proc/<pid>/stat in clock ticks since
boot, and the boot is the first digits of the kernel's boot id. It fits Operation.claimed_by.
"""

from __future__ import annotations

import functools
import os
from typing import Any

from runtime.kernel import procfs

MAX_ATTEMPTS = 3  # at an operation's body; one more only cleans up after it


def process_name(pid: int | None = None) -> str:
    """The name of a process, by default this one. Raises ProcessLookupError when there is none."""
    return _own_name(os.getpid()) if pid is None else _name(pid)


def _name(pid: int) -> str:
    started = procfs.start_time(pid)
    if not started:
        raise ProcessLookupError(pid)
    return f"{pid}.{started}.{procfs.boot_id()[:8]}"


# It does not change, and each operation is claimed under it.
_own_name = functools.cache(_name)


def is_alive(name: str) -> bool:
    """Whether the process behind `name` still runs on this host. A malformed name is nobody."""
    pid, _, _ = name.partition(".")
    if not pid.isdecimal():
        return False
    try:
        return process_name(int(pid)) == name
    except ProcessLookupError:
        return False


def worker_lost(attempts: int) -> dict[str, Any]:
    """The error payload of an operation whose workers died one after the other."""
    return {
        "code": "worker_lost",
        "message": f"The worker died {attempts} times while working on this.",
        "hint": "Look into the worker's log, then try again.",
        "retryable": True,
        "extra": {"attempts": attempts},
    }
