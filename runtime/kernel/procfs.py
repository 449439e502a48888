"""Facts from /proc."""

from __future__ import annotations

import errno
import os

from runtime.kernel import syscalls
from runtime.kernel.constants import O_PATH, RESOLVE_BENEATH, RESOLVE_NO_XDEV

_PROC_SUPER_MAGIC = 0x9FA0  # linux/magic.h
_ROOT_INODE = 1


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


def open_own(name: str, flags: int) -> int:
    """Descriptor of the kernel's /proc/self/`name`, inside a container: not of what an image or a volume has in
    its place (CVE-2019-16884, CVE-2025-52881). Raises OSError, KernelFailure.
    """
    root = os.open("/proc", O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        genuine = syscalls.filesystem_type(root) == _PROC_SUPER_MAGIC
        if not genuine or os.fstat(root).st_ino != _ROOT_INODE:
            raise OSError(errno.EXDEV, "/proc is not the kernel's", "/proc")
        # Nothing is mounted on the way, and so nothing on the file.
        how = RESOLVE_BENEATH | RESOLVE_NO_XDEV
        return syscalls.openat2(root, f"self/{name}", flags, resolve=how)
    finally:
        os.close(root)


def set_command_line(text: str) -> None:
    """What /proc/<pid>/cmdline shows of this process from now on, in place of how the platform started it: paths
    and numbers of the host are nothing for containers to read. Raises OSError, KernelFailure, ValueError.
    """
    fd = open_own("stat", os.O_RDONLY)
    try:
        data = os.read(fd, 4096)
    finally:
        os.close(fd)
    fields = data[data.rindex(b")") + 2 :].split()
    start, end = (
        int(fields[45]),
        int(fields[46]),
    )  # arg_start and arg_end, fields 48 and 49: proc(5)
    if 0 < start < end:
        # Up to its end: with a NUL as the last byte the kernel shows no more than that.
        syscalls.overwrite(start, text.encode()[: end - start - 1].ljust(end - start, b"\0"))
