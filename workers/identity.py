"""Who claimed an operation: a process, named so that a later one with the same pid is somebody else.

A name is `<pid>.<start time>.<boot>`: the start time is field 22 of /proc/<pid>/stat in clock ticks since
boot, and the boot is the first digits of the kernel's boot id. It fits Operation.claimed_by.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path


def process_name(pid: int | None = None) -> str:
    """The name of a process, by default this one. Raises FileNotFoundError when there is none."""
    pid = os.getpid() if pid is None else pid
    return f"{pid}.{_start_time(pid)}.{_boot()}"


def is_alive(name: str) -> bool:
    """Whether the process behind `name` still runs on this host. A malformed name is nobody."""
    pid, _, _ = name.partition(".")
    if not pid.isdecimal():
        return False
    try:
        return process_name(int(pid)) == name
    except (FileNotFoundError, ProcessLookupError):
        return False


def _start_time(pid: int) -> int:
    stat = Path(f"/proc/{pid}/stat").read_bytes()
    # The command's name stands in parentheses and may hold anything, spaces and parentheses too.
    fields = stat[stat.rindex(b")") + 2 :].split()
    if fields[0] in (b"Z", b"X"):
        raise ProcessLookupError(pid)
    return int(fields[19])


@functools.cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
