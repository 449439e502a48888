"""What a container has unless it asks for something else.

The engine's plans are made of it, and the launcher prepares it before a container is known (runtime.shim.ahead).
The lists are the OCI runtime spec's default file systems, and Docker's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.kernel.constants import (
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    MS_STRICTATIME,
)

if TYPE_CHECKING:
    from runtime.model.plan import MountStep

QUIET = MS_NOSUID | MS_NODEV | MS_NOEXEC
SHM_SIZE = 64 * 1024 * 1024  # bytes

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
LINKS = {
    "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx", "core": "/proc/kcore",
}  # fmt: skip

# Kernel interfaces that tell about, or reach into, the host.
MASKED_PATHS = (
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys",
    "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
    "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
)  # fmt: skip
READONLY_PATHS = (
    "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"
)  # fmt: skip


def filesystem(fstype: str, target: str, flags: int, data: str = "") -> MountStep:
    return {
        "kind": "filesystem",
        "fstype": fstype,
        "source": fstype,
        "target": target,
        "flags": flags,
        "data": data,
        "make": "dir",
    }


def kernel_filesystem(fstype: str, target: str, flags: int, data: str = "") -> MountStep:
    """With a link in an image's /proc, what a volume has in its place later would decide what the masks, which
    come last, find there (CVE-2019-19921, CVE-2023-27561): none of them is followed.
    """
    return {**filesystem(fstype, target, flags, data), "plain": True}


def proc() -> MountStep:
    return kernel_filesystem("proc", "/proc", QUIET)


def dev() -> MountStep:
    return kernel_filesystem("tmpfs", "/dev", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k")


def pts() -> MountStep:
    data = "newinstance,ptmxmode=0666,mode=0620,gid=5"
    return kernel_filesystem("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, data)


def shm(size: int = SHM_SIZE) -> MountStep:
    return kernel_filesystem("tmpfs", "/dev/shm", QUIET, shm_options(size))


def shm_options(size: int) -> str:
    return f"mode=1777,size={size}"


def mqueue() -> MountStep:
    return {**kernel_filesystem("mqueue", "/dev/mqueue", QUIET), "optional": True}


def sys(protect: int = MS_RDONLY) -> MountStep:
    return kernel_filesystem("sysfs", "/sys", QUIET | protect)


def device(source: str, target: str) -> MountStep:
    return {"kind": "device", "source": source, "target": target, "plain": False}


def link(name: str) -> MountStep:
    return {"kind": "symlink", "source": LINKS[name], "target": f"/dev/{name}", "plain": True}


def sysctls(last_gid: int) -> dict[str, str]:
    """Of a network namespace of its own: no port is privileged inside, pings work."""
    return {
        "net.ipv4.ip_unprivileged_port_start": "0",
        "net.ipv4.ping_group_range": f"0 {last_gid}",
    }
