"""Limits on a unified host: what stands in the kernel's files, and that it holds."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from runtime.cgroups.detect import detect
from runtime.cgroups.limits import everything, io_weight_of, weight_of
from runtime.cgroups.parse import flat_keyed, io_stat
from runtime.errors import EngineError, SpecInvalid, Unsupported
from runtime.model.spec import Limits
from runtime.model.state import Status
from tests.support.engine import Instance
from tests.support.options import Seen, asked, started
from tests.support.waiting import wait_until
from webui.containers.requests import LimitsRequest

MIB = 2**20
HOG = "dd if=/dev/zero of=/dev/null bs={}M count=1"  # its buffer is one allocation that it fills


def group(seen: Seen) -> Path:
    """The directory of its group."""
    return Path(next(iter(seen.instance.engine.cgroups.open(seen.spec.id).paths.values())))


def read(seen: Seen, name: str) -> str:
    return (group(seen) / name).read_text().strip()


def values(seen: Seen, *names: str) -> dict[str, str]:
    return {name: read(seen, name) for name in names}


def limited(instance: Instance, command: str = "exec sleep 1000", **limits: Any) -> Seen:
    return started(instance, command=["sh", "-c", command], limits=limits)


def changed(seen: Seen, **limits: Any) -> None:
    wanted = LimitsRequest.model_validate(limits).to_limits()
    seen.instance.engine.update(seen.spec.id, limits=wanted)


def number_of(disk: str) -> str:
    info = os.stat(disk)
    return f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}"


def test_this_host_is_unified_and_hands_every_controller_down(instance: Instance) -> None:
    found = detect()
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    assert (found.version, found.unified) == ("v2", "/sys/fs/cgroup")
    assert not any(" - cgroup " in line for line in mounts)
    seen = limited(instance)
    # The kernel had handed nothing down; what it offers at the top is there at the bottom.
    wanted = set(Path("/sys/fs/cgroup/cgroup.controllers").read_text().split())
    assert {"cpu", "cpuset", "hugetlb", "io", "memory", "pids"} <= wanted
    assert set(read(seen, "cgroup.controllers").split()) == wanted


def test_every_limit_stands_in_its_file_and_changes_under_the_running_container(
    instance: Instance, scratch: str
) -> None:
    disk = number_of(scratch)
    seen = limited(
        instance, memory="64m", memory_swap="96m", memory_reservation="16m", memory_high="48m",
        cpus=0.5, cpu_shares=512, cpuset_cpus="0", cpuset_mems="0", pids=40, blkio_weight=300,
        device_read_bps=[f"{scratch}:1m"], device_write_iops=[f"{scratch}:50"],
        hugetlb={"2MB": "4m"},
    )  # fmt: skip
    files = (
        "memory.max", "memory.swap.max", "memory.low", "memory.high", "cpu.max", "cpu.weight",
        "cpuset.cpus", "cpuset.mems", "pids.max", "io.weight", "io.max", "hugetlb.2MB.max",
    )  # fmt: skip
    assert values(seen, *files) == {
        "memory.max": str(64 * MIB),
        "memory.swap.max": str(32 * MIB),  # Docker's counts memory and swap together
        "memory.low": str(16 * MIB),
        "memory.high": str(48 * MIB),
        "cpu.max": "50000 100000",
        "cpu.weight": str(weight_of(512)),
        "cpuset.cpus": "0",
        "cpuset.mems": "0",
        "pids.max": "40",
        "io.weight": f"default {io_weight_of(300)}",
        "io.max": f"{disk} rbps={MIB} wbps=max riops=max wiops=50",
        "hugetlb.2MB.max": str(4 * MIB),
    }
    assert seen.status("Cpus_allowed_list") == "0"
    pid = seen.pid
    changed(
        seen, memory="128m", memory_swap=-1, memory_high="100m", cpu_period=50000, cpu_quota=20000,
        pids=44, blkio_weight=10, device_write_bps=[f"{scratch}:2m"],
    )  # fmt: skip
    assert values(seen, *files) == {
        "memory.max": str(128 * MIB),
        "memory.swap.max": "max",
        "memory.low": "0",
        "memory.high": str(100 * MIB),
        "cpu.max": "20000 50000",
        "cpu.weight": "100",
        "cpuset.cpus": everything("cpus"),
        "cpuset.mems": everything("mems"),
        "pids.max": "44",
        "io.weight": "default 1",
        "io.max": f"{disk} rbps=max wbps={2 * MIB} riops=max wiops=max",
        "hugetlb.2MB.max": "max",
    }
    changed(seen)
    unlimited = ("memory.max", "memory.swap.max", "memory.high", "cpu.max", "pids.max")
    assert [read(seen, name).split()[0] for name in unlimited] == ["max"] * 5
    assert values(seen, "memory.low", "io.weight", "io.max") == {
        "memory.low": "0", "io.weight": "default 100", "io.max": "",
    }  # fmt: skip
    assert seen.pid == pid


@pytest.mark.parametrize(
    "impossible",
    [
        {"cpuset_mems": "63"},
        {"device_read_bps": {"/dev/null": 1}},
        {"blkio_weight_device": {"/dev/vdd": 300}},  # its scheduler knows no weights
        {"memory_swappiness": 5},
        {"oom_kill_disable": True, "memory": "128m"},
        {"memory": "6m"},  # less than it holds: the kernel would kill for it
    ],
    ids=lambda given: next(iter(given)),
)
def test_a_change_with_one_impossible_value_changes_nothing(
    instance: Instance, impossible: dict[str, Any]
) -> None:
    seen = limited(
        instance, "dd if=/dev/zero of=/dev/shm/x bs=1M count=20; exec sleep 1000",
        memory="64m", pids=50, cpus=0.5,
    )  # fmt: skip
    wait_until(lambda: int(read(seen, "memory.current")) > 20 * MIB)
    names = ("memory.max", "memory.swap.max", "memory.high", "cpu.max", "pids.max", "io.max")
    before = values(seen, *names)
    with pytest.raises(EngineError) as caught:
        changed(seen, **{"memory": "128m", "pids": 60, "cpus": 1, **impossible})
    assert caught.value.extra["field"] == f"limits.{next(iter(impossible))}"
    assert values(seen, *names) == before
    assert instance.status(seen.spec) == Status.RUNNING


def test_what_only_v1_has_is_refused_when_it_is_created(instance: Instance) -> None:
    for name, limits in {
        "memory_swappiness": {"memory_swappiness": 5},
        "oom_kill_disable": {"oom_kill_disable": True, "memory": "64m"},
    }.items():
        with pytest.raises(Unsupported) as caught:
            instance.create(asked(instance, limits=limits))
        assert caught.value.extra["field"] == f"limits.{name}"
        assert "cgroup v1" in caught.value.hint


# -- memory ---------------------------------------------------------------------------------------


def test_over_memory_max_the_kernel_kills_and_it_shows(instance: Instance) -> None:
    seen = limited(instance, f"{HOG.format(100)}; exec sleep 1000", memory="32m", memory_swap="32m")
    sample = wait_until(lambda: s if (s := instance.engine.stats(seen.spec.id)).oom_kills else None)
    assert sample.oom_kills == flat_keyed(read(seen, "memory.events"))["oom_kill"] == 1
    assert sample.memory_limit == 32 * MIB
    assert 31 * MIB <= sample.memory_peak <= 32 * MIB
    assert instance.status(seen.spec) == Status.RUNNING


def test_a_container_whose_own_process_is_killed_for_memory_says_so(instance: Instance) -> None:
    spec = instance.run(
        instance.spec(
            *HOG.format(100).split(), limits=Limits(memory=32 * MIB, memory_swap=32 * MIB)
        )
    )
    record = instance.engine.wait(spec.id, 60)
    assert record is not None
    assert (record.code, record.reason, record.oom_killed) == (137, "oom_killed", True)


def test_memory_and_swap_are_one_budget_as_with_docker(instance: Instance) -> None:
    """64 MiB fit into 32 of memory and 64 of swap, and not into 32 and 16."""
    fits = limited(
        instance, "dd if=/dev/zero of=/dev/shm/x bs=1M count=60; exec sleep 1000",
        memory="32m", memory_swap="96m",
    )  # fmt: skip
    sample = wait_until(
        lambda: s if (s := instance.engine.stats(fits.spec.id)).swap > 20 * MIB else None,
        timeout=20,
    )
    assert sample.oom_kills == 0
    assert sample.memory <= 32 * MIB
    over = instance.run(
        instance.spec(*HOG.format(64).split(), limits=Limits(memory=32 * MIB, memory_swap=48 * MIB))
    )
    record = instance.engine.wait(over.id, 60)
    assert record is not None
    assert record.oom_killed


def test_above_memory_high_it_is_slowed_and_nothing_is_killed(instance: Instance) -> None:
    # What it writes is page cache, which the kernel takes back instead of letting it grow.
    seen = limited(
        instance, "dd if=/dev/zero of=/tmp/x bs=1M count=60; exec sleep 1000", memory_high="16m"
    )
    wait_until(
        lambda: flat_keyed(read(seen, "memory.events"))["high"] > 0, timeout=20, what="memory.high"
    )
    events = flat_keyed(read(seen, "memory.events"))
    assert (events["max"], events["oom_kill"]) == (0, 0)
    # Reclaim runs in steps: a few batches of pages more, never all that it wrote.
    assert int(read(seen, "memory.current")) < 32 * MIB


# -- cpu, processes -------------------------------------------------------------------------------


def test_weights_share_one_cpu(instance: Instance) -> None:
    busy = "while :; do :; done"
    heavy, light = (
        limited(instance, busy, cpu_shares=shares, cpuset_cpus="0") for shares in (4096, 256)
    )

    def used(seen: Seen) -> int:
        return flat_keyed(read(seen, "cpu.stat"))["usage_usec"]

    first = used(heavy), used(light)
    wait_until(lambda: used(heavy) - first[0] > 1_000_000, timeout=30, what="a second of CPU")
    shares = [now - then for now, then in zip((used(heavy), used(light)), first, strict=True)]
    # 10 to 1 and more by their weights; others want this CPU as well.
    assert shares[0] > 3 * shares[1]
    for seen in (heavy, light):
        instance.engine.kill(seen.spec.id)


def test_throttling_and_pressure_reach_the_sample(instance: Instance) -> None:
    seen = limited(instance, "while :; do :; done", cpus=0.1)
    sample = wait_until(
        lambda: (
            s
            if (s := instance.engine.stats(seen.spec.id)).pressure.get("cpu.some.avg10", 0) > 1
            and s.cpu_throttled_periods > 3
            else None
        ),
        timeout=20,
        what="pressure of the CPU",
    )
    counted = flat_keyed(read(seen, "cpu.stat"))
    assert 0 < sample.cpu_throttled_periods <= counted["nr_throttled"]
    assert 0 < sample.cpu_throttled_time <= counted["throttled_usec"] * 1000
    assert sample.cpu_limit == pytest.approx(0.1)
    assert {"memory.full.avg10", "io.some.avg10"} <= set(sample.pressure)
    instance.engine.kill(seen.spec.id)


def test_processes_are_held_to_their_number_and_refusals_counted(instance: Instance) -> None:
    seen = limited(instance, "for i in 1 2 3 4 5 6; do sleep 1000 & done; exec sleep 1000", pids=4)
    wait_until(lambda: flat_keyed(read(seen, "pids.events"))["max"] > 0)
    assert int(read(seen, "pids.current")) <= 4
    assert instance.engine.stats(seen.spec.id).pids_limit == 4


# -- disks ----------------------------------------------------------------------------------------


def test_a_disk_is_read_no_faster_than_allowed(instance: Instance, scratch: str) -> None:
    seen = started(
        instance, devices=[f"{scratch}:/dev/disk:r"],
        limits={"device_read_bps": [f"{scratch}:1m"]},
    )  # fmt: skip
    begun = time.monotonic()
    seen.run("dd", "if=/dev/disk", "of=/dev/null", "bs=256k", "count=8", "iflag=direct")
    # 2 MiB at 1 MiB a second; a little goes at once.
    assert time.monotonic() - begun > 1.2
    row = next(r for r in read(seen, "io.stat").splitlines() if r.startswith(number_of(scratch)))
    assert io_stat(row)[0] == 2 * MIB
    assert instance.engine.stats(seen.spec.id).block_read >= 2 * MIB


def test_weights_go_where_the_scheduler_looks(instance: Instance, scratch: str) -> None:
    disk = number_of(scratch)
    weights: dict[str, Any] = {"blkio_weight": 200, "blkio_weight_device": [f"{scratch}:300"]}
    with pytest.raises(SpecInvalid) as caught:
        instance.run(asked(instance, limits=weights))
    assert caught.value.extra["field"] == "limits.blkio_weight_device"
    assert "bfq" in caught.value.hint
    Path(f"/sys/block/{Path(scratch).name}/queue/scheduler").write_text("bfq")
    seen = limited(instance, **weights)
    assert read(seen, "io.bfq.weight").splitlines() == ["default 200", f"{disk} 300"]
    assert read(seen, "io.weight") == f"default {io_weight_of(200)}"
    changed(seen)
    assert read(seen, "io.bfq.weight").splitlines() == ["default 100"]
