"""Limits as the files and values of v1 and v2, beside each other: the one table of translation.

| limit                | v1                                             | v2                              |
|----------------------|------------------------------------------------|---------------------------------|
| memory               | memory.limit_in_bytes                          | memory.max                      |
| memory_swap          | memory.memsw.limit_in_bytes (memory + swap)    | memory.swap.max (swap alone)    |
| memory_reservation   | memory.soft_limit_in_bytes                     | memory.low                      |
| memory_high          | –                                              | memory.high                     |
| memory_swappiness    | memory.swappiness                              | –                               |
| oom_kill_disable     | memory.oom_control                             | –                               |
| cpus, quota, period  | cpu.cfs_quota_us, cpu.cfs_period_us            | cpu.max                         |
| cpu_shares           | cpu.shares                                     | cpu.weight (see weight_of)      |
| cpuset_cpus, _mems   | cpuset.cpus, cpuset.mems                       | the same                        |
| pids                 | pids.max                                       | pids.max                        |
| blkio_weight         | blkio.weight or blkio.bfq.weight               | io.weight and io.bfq.weight     |
| blkio_weight_device  | blkio.weight_device or blkio.bfq.weight_device | the one its scheduler goes by   |
| device_read_bps, …   | blkio.throttle.read_bps_device, …              | io.max                          |
| hugetlb              | hugetlb.<size>.limit_in_bytes                  | hugetlb.<size>.max              |

oom_score_adj belongs to each process, not to a group: the shim sets it.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from runtime.cgroups import files
from runtime.errors import SpecInvalid
from runtime.model.spec import Limits

PERIOD = 100_000  # microseconds; the kernel's default


class Setting(NamedTuple):
    """One value to write. `key` is the device ("8:0") when the file is a table of devices."""

    controller: str
    file: str
    value: str
    field: str  # of Limits
    asked: bool = True  # False: a default or a reset, which a missing file may ignore
    key: str = ""


Exists = Callable[[str, str], bool]  # (controller, file) -> this kernel has it


def weight_of(shares: int) -> int:
    """cpu.weight (1..10000) of cpu.shares (2..262144), such that the defaults 1024 and 100 meet.

    A straight line would give a container with default shares 39 instead of 100: less CPU than
    processes outside containers. This is the curve through (2, 1), (1024, 100), (262144, 10000)
    that the OCI runtimes agreed on in 2025.
    """
    log = math.log2(shares)
    return min(10_000, max(1, math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34))))


def io_weight_of(weight: int) -> int:
    """io.weight (1..10000) of blkio.weight (10..1000)."""
    return 1 + (weight - 10) * 9999 // 990


def settings(limits: Limits, version: str, exists: Exists, *, reset: bool) -> list[Setting]:
    """Every value to write for `limits`, in a safe order.

    With `reset`, limits that are None are set back to "no limit" (for a live update); without, they are
    left alone (for a new group). Raises SpecInvalid for a device that is none.
    """
    table = _v2 if version == "v2" else _v1
    return list(table(limits, exists, reset))


def quota_of(limits: Limits) -> tuple[int | None, int]:
    """(quota or None, period) in microseconds."""
    if limits.cpus is not None:
        return max(1000, round(limits.cpus * PERIOD)), PERIOD
    quota = limits.cpu_quota if limits.cpu_quota != -1 else None
    return quota, limits.cpu_period or PERIOD


def swap_of(limits: Limits) -> int | None:
    """Bytes of memory and swap together; -1 unlimited; None without a memory limit.

    Docker's rule: unset means as much swap again as memory.
    """
    if limits.memory_swap is not None:
        return limits.memory_swap
    return None if limits.memory is None else 2 * limits.memory


def _v1(limits: Limits, exists: Exists, reset: bool) -> Iterator[Setting]:
    if limits.memory is not None or reset:
        memory = -1 if limits.memory is None else limits.memory
        yield Setting("memory", "memory.limit_in_bytes", str(memory), "memory",
                      limits.memory is not None)  # fmt: skip
    swap = swap_of(limits)
    if swap is not None or reset:
        yield Setting("memory", "memory.memsw.limit_in_bytes", str(-1 if swap is None else swap),
                      "memory_swap", limits.memory_swap is not None)  # fmt: skip
    if limits.memory_reservation is not None or reset:
        soft = -1 if limits.memory_reservation is None else limits.memory_reservation
        yield Setting("memory", "memory.soft_limit_in_bytes", str(soft), "memory_reservation",
                      limits.memory_reservation is not None)  # fmt: skip
    if limits.memory_high is not None:
        yield Setting("memory", "memory.high", str(limits.memory_high), "memory_high")
    if limits.memory_swappiness is not None:
        yield Setting("memory", "memory.swappiness", str(limits.memory_swappiness),
                      "memory_swappiness")  # fmt: skip
    elif reset:
        usual = files.read("/proc/sys/vm/swappiness").strip()
        yield Setting("memory", "memory.swappiness", usual, "memory_swappiness", False)
    if limits.oom_kill_disable or reset:
        yield Setting("memory", "memory.oom_control", str(int(limits.oom_kill_disable)),
                      "oom_kill_disable", limits.oom_kill_disable)  # fmt: skip
    quota, period = quota_of(limits)
    if quota is not None or limits.cpu_period is not None or reset:
        field = "cpus" if limits.cpus is not None else "cpu_quota"
        asked = quota is not None
        yield Setting("cpu", "cpu.cfs_period_us", str(period), field, asked)
        yield Setting("cpu", "cpu.cfs_quota_us", str(-1 if quota is None else quota), field, asked)
    if limits.cpu_shares is not None or reset:
        yield Setting("cpu", "cpu.shares", str(limits.cpu_shares or 1024), "cpu_shares",
                      limits.cpu_shares is not None)  # fmt: skip
    yield from _common(limits, reset)
    weight = "blkio.weight" if exists("blkio", "blkio.weight") else "blkio.bfq.weight"
    if limits.blkio_weight is not None or reset:
        yield Setting("blkio", weight, str(limits.blkio_weight or (500 if weight == "blkio.weight" else 100)),
                      "blkio_weight", limits.blkio_weight is not None)  # fmt: skip
    for path, value in limits.blkio_weight_device.items():
        key = device_number(path, "blkio_weight_device")
        yield Setting("blkio", f"{weight}_device", f"{key} {value}", "blkio_weight_device", key=key)
    for field in _THROTTLES:
        for path, value in getattr(limits, field).items():
            key = device_number(path, field)
            file = f"blkio.throttle.{field.removeprefix('device_')}_device"
            yield Setting("blkio", file, f"{key} {value}", field, key=key)
    yield from _huge_pages(limits, reset, "limit_in_bytes", "-1")


_THROTTLES = {
    "device_read_bps": "rbps", "device_write_bps": "wbps",
    "device_read_iops": "riops", "device_write_iops": "wiops",
}  # fmt: skip


def _v2(limits: Limits, exists: Exists, reset: bool) -> Iterator[Setting]:
    if limits.memory is not None or reset:
        yield Setting("memory", "memory.max", "max" if limits.memory is None else str(limits.memory),
                      "memory", limits.memory is not None)  # fmt: skip
    swap = swap_of(limits)
    if swap is not None or reset:
        # swap.max counts swap alone; v1 and Docker count both together.
        alone = "max" if swap is None or swap == -1 else str(swap - (limits.memory or 0))
        yield Setting("memory", "memory.swap.max", alone, "memory_swap",
                      limits.memory_swap is not None)  # fmt: skip
    if limits.memory_reservation is not None or reset:
        yield Setting("memory", "memory.low", str(limits.memory_reservation or 0),
                      "memory_reservation", limits.memory_reservation is not None)  # fmt: skip
    if limits.memory_high is not None or reset:
        high = "max" if limits.memory_high is None else str(limits.memory_high)
        yield Setting("memory", "memory.high", high, "memory_high", limits.memory_high is not None)
    if limits.memory_swappiness is not None:
        yield Setting("memory", "memory.swappiness", str(limits.memory_swappiness),
                      "memory_swappiness")  # fmt: skip
    if limits.oom_kill_disable:
        yield Setting("memory", "memory.oom_control", "1", "oom_kill_disable")
    quota, period = quota_of(limits)
    if quota is not None or limits.cpu_period is not None or reset:
        field = "cpus" if limits.cpus is not None else "cpu_quota"
        yield Setting("cpu", "cpu.max", f"{'max' if quota is None else quota} {period}", field,
                      quota is not None)  # fmt: skip
    if limits.cpu_shares is not None or reset:
        yield Setting("cpu", "cpu.weight", str(weight_of(limits.cpu_shares or 1024)), "cpu_shares",
                      limits.cpu_shares is not None)  # fmt: skip
    yield from _common(limits, reset)
    yield from _io_weights(limits, exists, reset)
    rows: dict[str, list[str]] = {}
    fields: dict[str, str] = {}
    for field, word in _THROTTLES.items():
        for path, value in getattr(limits, field).items():
            key = device_number(path, field)
            rows.setdefault(key, []).append(f"{word}={value}")
            fields.setdefault(key, field)
    for key, words in rows.items():
        # One row of io.max holds all four; those left out of a reset row must become "max".
        given = {w.partition("=")[0] for w in words}
        rest = [f"{w}=max" for w in _THROTTLES.values() if w not in given]
        yield Setting("io", "io.max", " ".join([key, *words, *rest]), fields[key], key=key)
    yield from _huge_pages(limits, reset, "max", "max")


# The cost model and the scheduler bfq have a file each, with a range of its own; both may be there.
_IO_WEIGHTS: dict[str, Callable[[int], int]] = {"io.weight": io_weight_of, "io.bfq.weight": int}


def _io_weights(limits: Limits, exists: Exists, reset: bool) -> Iterator[Setting]:
    files_here = [name for name in _IO_WEIGHTS if exists("io", name)] or ["io.weight"]
    if limits.blkio_weight is not None or reset:
        for file in files_here:
            given = limits.blkio_weight
            value = 100 if given is None else _IO_WEIGHTS[file](given)
            yield Setting("io", file, f"default {value}", "blkio_weight", given is not None)
    for path, weight in limits.blkio_weight_device.items():
        key = device_number(path, "blkio_weight_device")
        file = files_here[-1] if _scheduler(key) == "bfq" else files_here[0]
        value = _IO_WEIGHTS[file](weight)
        yield Setting("io", file, f"{key} {value}", "blkio_weight_device", key=key)


def _scheduler(key: str) -> str:
    """The I/O scheduler of the device "8:0"; "" when it has none."""
    try:
        known = files.read(f"/sys/dev/block/{key}/queue/scheduler")
    except OSError:
        return ""
    return known.partition("[")[2].partition("]")[0]


def _huge_pages(limits: Limits, reset: bool, file: str, unlimited: str) -> Iterator[Setting]:
    for size, value in limits.hugetlb.items():
        yield Setting("hugetlb", f"hugetlb.{size}.{file}", str(value), "hugetlb")
    for size in huge_page_sizes() if reset else ():
        if size not in limits.hugetlb:
            yield Setting("hugetlb", f"hugetlb.{size}.{file}", unlimited, "hugetlb", False)


def huge_page_sizes() -> list[str]:
    """Those of this kernel, as its control files spell them: "64KB", "2MB", "1GB" (mem_fmt in mm/hugetlb_cgroup.c)."""
    try:
        found = os.listdir("/sys/kernel/mm/hugepages")
    except OSError:
        return []
    return [_page_size(int(n.removeprefix("hugepages-").removesuffix("kB"))) for n in sorted(found)]


def _page_size(kib: int) -> str:
    if kib >= 1 << 20:
        return f"{kib >> 20}GB"
    return f"{kib >> 10}MB" if kib >= 1 << 10 else f"{kib}KB"


def everything(name: str) -> str:
    """All "cpus" or "mems" of this host, as a list of a cpuset."""
    kind = {"cpus": "cpu", "mems": "node"}[name]
    return files.read(f"/sys/devices/system/{kind}/online").strip()


def _common(limits: Limits, reset: bool) -> Iterator[Setting]:
    """Controllers whose files are the same in both versions."""
    if limits.pids is not None or reset:
        value = "max" if limits.pids in (None, -1) else str(limits.pids)
        yield Setting("pids", "pids.max", value, "pids", limits.pids not in (None, -1))
    for name in ("cpus", "mems"):
        text = getattr(limits, f"cpuset_{name}")
        if text:
            yield Setting("cpuset", f"cpuset.{name}", text, f"cpuset_{name}")
        elif reset:
            # v2 would begin with empty sets, but takes none for a group with processes.
            yield Setting("cpuset", f"cpuset.{name}", everything(name), f"cpuset_{name}", False)


def device_number(path: str, field: str) -> str:
    """ "8:0" of a block device. Raises SpecInvalid when it is none."""
    try:
        info = os.stat(path)
    except OSError as error:
        raise SpecInvalid(f"limits.{field}", f"{path}: {error.strerror}.") from error
    if not stat.S_ISBLK(info.st_mode):
        raise SpecInvalid(
            f"limits.{field}",
            f"{path} is not a block device.",
            hint="Name a disk, such as /dev/sda.",
        )
    return f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}"


def cleared(file: str, key: str) -> str:
    """The row that takes the limit of one device away."""
    if file == "io.max":
        return f"{key} rbps=max wbps=max riops=max wiops=max"
    if file.startswith("io."):
        return f"{key} default"
    return f"{key} 0"
