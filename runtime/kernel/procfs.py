"""Facts from /proc."""

from __future__ import annotations

import os


def boot_id() -> str:
    """The kernel's random id of this boot; pids and start times mean something only under it."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def start_time(pid: int) -> int:
    """Field 22 of /proc/<pid>/stat: clock ticks since boot. 0 when the process is gone or a zombie.

    Raises OSError when it cannot be told: no descriptor left, no memory. That it is gone is no guess, for
    what a monitor leaves is killed.
    """
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        data = os.read(fd, 2048)
    except ProcessLookupError:
        return 0
    finally:
        os.close(fd)
    # The name, in parentheses, may hold blanks and parentheses itself.
    fields = data[data.rindex(b")") + 2 :].split()
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def is_alive(pid: int, started: int) -> bool:
    """The process that had this pid *and* start time still runs. Raises OSError as `start_time`."""
    return pid > 0 and started > 0 and start_time(pid) == started
