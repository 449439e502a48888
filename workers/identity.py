"""Who claimed an operation: a process, named so that a later one with the same pid is somebody else.

A name is `<pid>.<start time>.<boot>`: the start time is field 22 of /proc/<pid>/stat in clock ticks since
boot, and the boot is the first digits of the kernel's boot id. It fits Operation.claimed_by.
"""

from __future__ import annotations

import os

from runtime.kernel import procfs


def process_name(pid: int | None = None) -> str:
    """The name of a process, by default this one. Raises ProcessLookupError when there is none."""
    pid = os.getpid() if pid is None else pid
    started = procfs.start_time(pid)
    if not started:
        raise ProcessLookupError(pid)
    return f"{pid}.{started}.{procfs.boot_id()[:8]}"


def is_alive(name: str) -> bool:
    """Whether the process behind `name` still runs on this host. A malformed name is nobody."""
    pid, _, _ = name.partition(".")
    if not pid.isdecimal():
        return False
    try:
        return process_name(int(pid)) == name
    except ProcessLookupError:
        return False
