"""What limits a kernel could take, on any host; what this host lacks is the cgroups' to say."""

from __future__ import annotations

import re
from collections.abc import Callable

from runtime.errors import SpecInvalid
from runtime.model.parse import parse_cpuset
from runtime.model.spec import Limits

MIN_MEMORY = 6 * 1024 * 1024  # Docker's: an init needs about this much to come up at all


def validate_limits(limits: Limits, field: str = "limits") -> None:
    """Raise SpecInvalid for a limit that no kernel takes, or two that contradict each other."""

    def refuse(name: str, message: str, hint: str = "") -> None:
        raise SpecInvalid(f"{field}.{name}", message, hint=hint)

    def between(name: str, low: float, high: float, unit: str = "") -> None:
        value = getattr(limits, name)
        if value is not None and not low <= value <= high:
            refuse(name, f"{name} must be from {low:g} to {high:g}{unit}, not {value:g}.")

    memory = limits.memory
    if memory is not None and memory < MIN_MEMORY:
        refuse("memory", f"A memory limit of {memory} bytes is below the minimum of 6 MiB.",
               "Give 6m or more, or leave it empty for no limit.")  # fmt: skip
    reservation = limits.memory_reservation
    if reservation is not None:
        if reservation < MIN_MEMORY:
            refuse("memory_reservation", "A memory reservation must be 6 MiB or more.")
        if memory is not None and reservation > memory:
            refuse("memory_reservation", "The memory reservation exceeds the memory limit.")
    high = limits.memory_high
    if high is not None:
        if high < MIN_MEMORY:
            refuse("memory_high", "The amount above which memory is slowed must be 6 MiB or more.")
        if memory is not None and high > memory:
            refuse("memory_high", "Above the memory limit nothing can be slowed.",
                   "Give less than the memory limit.")  # fmt: skip
    swap = limits.memory_swap
    if swap is not None and swap != -1:
        if memory is None:
            refuse("memory_swap", "A limit of memory and swap needs a memory limit as well.",
                   "Set limits.memory too.")  # fmt: skip
        elif swap < memory:
            refuse("memory_swap", "memory_swap counts memory and swap together: it cannot be "
                   "below the memory limit.", "Give the memory limit again for no swap.")  # fmt: skip
    between("memory_swappiness", 0, 100)
    between("oom_score_adj", -1000, 1000)
    if limits.oom_kill_disable and memory is None:
        refuse("oom_kill_disable", "Without a memory limit, oom_kill_disable could freeze the host.",
               "Set limits.memory too.")  # fmt: skip
    _validate_cpu(limits, refuse, between)
    if limits.pids is not None and limits.pids != -1 and not 1 <= limits.pids <= 4194304:
        refuse("pids", f"pids must be 1 to 4194304, or -1 for no limit, not {limits.pids}.")
    between("blkio_weight", 10, 1000)
    for name in ("device_read_bps", "device_write_bps", "device_read_iops", "device_write_iops",
                 "blkio_weight_device"):  # fmt: skip
        for path, value in getattr(limits, name).items():
            if not path.startswith("/dev/") or ".." in path.split("/"):
                refuse(name, f"{path!r} is not the path of a device.", "Write /dev/sda.")
            if value < 1 or (name == "blkio_weight_device" and not 10 <= value <= 1000):
                refuse(name, f"{value} is not possible for {path}.")
    for size, value in limits.hugetlb.items():
        if not re.fullmatch(r"\d+[KMG]B", size, re.ASCII):
            refuse("hugetlb", f"{size!r} is not a page size.", "Write 2MB or 1GB.")
        if value < 0:
            refuse("hugetlb", f"The limit of {size} pages must not be negative.")


def _validate_cpu(
    limits: Limits,
    refuse: Callable[..., None],
    between: Callable[..., None],
) -> None:
    cpus = limits.cpus
    if cpus is not None:
        if not 0 < cpus <= 8192:
            refuse("cpus", f"cpus must be more than 0, not {cpus:g}.",
                   "Give a number of cores such as 0.5 or 2, or leave it empty.")  # fmt: skip
        if limits.cpu_quota is not None or limits.cpu_period is not None:
            refuse("cpus", "cpus stands for quota and period: give one or the other.")
        if cpus < 0.01:
            # The kernel takes no quota under 1 ms in a period of 100 ms.
            refuse("cpus", "cpus below 0.01 is less than the kernel can hand out.", "Give 0.01.")
    between("cpu_period", 1000, 1_000_000, " microseconds")
    if limits.cpu_quota is not None and limits.cpu_quota != -1:
        between("cpu_quota", 1000, 2**44, " microseconds")
    between("cpu_shares", 2, 262144)
    if limits.cpuset_cpus:
        parse_cpuset(limits.cpuset_cpus, "limits.cpuset_cpus")
    if limits.cpuset_mems:
        parse_cpuset(limits.cpuset_mems, "limits.cpuset_mems")
