"""Capability names and sets. Numbers: include/uapi/linux/capability.h; default set: `docker run` reference."""

from __future__ import annotations

from collections.abc import Iterable

from runtime.errors import SpecInvalid

NAMES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
    "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW",
    "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT",
    "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD",
    "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
    "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
)  # fmt: skip
NUMBERS = {name: number for number, name in enumerate(NAMES)}
ALL = (1 << len(NAMES)) - 1

DEFAULT = (
    "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP",
    "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
)  # fmt: skip


def number(name: str, field: str = "security.cap_add") -> int:
    """Number of "NET_ADMIN", "cap_net_admin"… Raises SpecInvalid."""
    plain = name.upper().removeprefix("CAP_")
    if plain not in NUMBERS:
        raise SpecInvalid(
            field,
            f"{name!r} is not a capability.",
            hint="Use a name such as NET_ADMIN, or ALL; `man 7 capabilities` lists them.",
        )
    return NUMBERS[plain]


def mask(names: Iterable[str], field: str = "security.cap_add") -> int:
    """Bit mask; "ALL" stands for every capability this code knows."""
    bits = 0
    for name in names:
        bits |= ALL if name.upper() == "ALL" else 1 << number(name, field)
    return bits


def combine(*, add: Iterable[str] = (), drop: Iterable[str] = (), privileged: bool = False) -> int:
    """Docker's rule: privileged is everything; ALL in `drop` empties the default before `add`."""
    if privileged:
        return ALL
    added, dropped = tuple(add), tuple(drop)
    bits = 0 if "ALL" in (d.upper() for d in dropped) else mask(DEFAULT)
    if "ALL" in (a.upper() for a in added):
        return ALL & ~mask((d for d in dropped if d.upper() != "ALL"), "security.cap_drop")
    if bits:
        bits &= ~mask(dropped, "security.cap_drop")
    return bits | mask(added)


def bounding() -> int:
    """What this process may ever have: a host may lack some (CapBnd of /proc/self/status)."""
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("CapBnd:"):
                return int(line.split()[1], 16)
    return ALL
