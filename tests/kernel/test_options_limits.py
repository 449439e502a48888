"""Every limit as a file of the container's control groups or of /proc, when made and when changed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.cgroups.limits import everything
from runtime.errors import EngineError, SpecInvalid, Unsupported
from runtime.kernel import capabilities
from runtime.model.spec import Limits, Restart, Ulimit
from tests.support.engine import Instance
from tests.support.options import Seen, asked, started
from tests.support.waiting import wait_until
from webui.containers.requests import LimitsRequest

MIB = 2**20
MEMORY = ("memory", "memory.limit_in_bytes"), ("memory", "memory.max")
BOTH = ("memory", "memory.memsw.limit_in_bytes"), ("memory", "memory.swap.max")
SOFT = ("memory", "memory.soft_limit_in_bytes"), ("memory", "memory.low")
QUOTA = ("cpu", "cpu.cfs_quota_us"), ("cpu", "cpu.max")
PIDS = ("pids", "pids.max"), ("pids", "pids.max")


@pytest.fixture
def instance() -> Iterator[Instance]:
    with Instance() as made:
        yield made


@pytest.fixture
def legacy(instance: Instance) -> Instance:
    """For what only cgroup v1 has."""
    if instance.engine.cgroups.hierarchies.version != "v1":
        pytest.skip("this host has cgroup v2")
    return instance


def limited(instance: Instance, **limits: Any) -> Seen:
    return started(instance, limits=limits)


@pytest.mark.parametrize(
    ("swap", "v1", "v2"),
    [
        (None, 128 * MIB, 64 * MIB),  # unset: as much again
        ("64m", 64 * MIB, 0),  # equal: none
        ("96m", 96 * MIB, 32 * MIB),
        (-1, None, None),
    ],
)
def test_swap_counts_as_dockers_does(
    instance: Instance, swap: str | int | None, v1: int | None, v2: int | None
) -> None:
    if not instance.engine.cgroups.hierarchies.swap:
        pytest.skip("this kernel does not limit swap")
    seen = limited(instance, memory="64m", memory_swap=swap)
    assert int(seen.limit(*MEMORY)) == 64 * MIB
    text = seen.limit(*BOTH)
    if v1 is None:
        assert text == "max" or int(text) > 2**60
    else:
        assert int(text) in (v1, v2)


def test_memory_in_its_other_words(legacy: Instance) -> None:
    seen = limited(
        legacy, memory="64m", memory_reservation="32m", memory_swappiness=7, oom_kill_disable=True
    )
    assert int(seen.limit(*SOFT)) == 32 * MIB
    assert seen.limit(("memory", "memory.swappiness"), ("", "")) == "7"
    assert "oom_kill_disable 1" in seen.limit(("memory", "memory.oom_control"), ("", ""))


def test_the_oom_score_is_each_processs_own(instance: Instance) -> None:
    seen = started(instance, limits={"oom_score_adj": 321}, command="sh -c 'sleep 1000; true'")
    assert seen.proc("oom_score_adj").strip() == "321"
    assert seen.run("cat", "/proc/self/oom_score_adj") == "321"


def test_shared_memory_has_its_size(instance: Instance) -> None:
    seen = started(instance, shm_size="3m")
    assert "size=3072k" in seen.mount("/dev/shm").superblock
    info = os.statvfs(seen.file("/dev/shm"))
    assert info.f_blocks * info.f_frsize == 3 * MIB
    assert "size=65536k" in started(instance).mount("/dev/shm").superblock


@pytest.mark.parametrize(
    ("limits", "v1", "v2"),
    [
        ({"cpus": 0.5}, "50000", "50000 100000"),
        ({"cpu_period": 50000, "cpu_quota": 20000}, "20000", "20000 50000"),
    ],
)
def test_cpu_time(instance: Instance, limits: dict[str, Any], v1: str, v2: str) -> None:
    seen = limited(instance, **limits)
    assert seen.limit(*QUOTA) in (v1, v2)


def test_cpu_shares_and_sets(instance: Instance) -> None:
    seen = limited(instance, cpu_shares=512, cpuset_cpus="0", cpuset_mems="0")
    assert seen.limit(("cpu", "cpu.shares"), ("cpu", "cpu.weight")) in ("512", "59")
    assert seen.status("Cpus_allowed_list") == "0"
    assert seen.status("Mems_allowed_list") == "0"


def test_processes_and_files(instance: Instance) -> None:
    seen = started(
        instance,
        limits={"pids": 33},
        ulimits=["nofile=100:200", "core=0", "fsize=4096", "locks=7"],
    )
    assert seen.limit(*PIDS) == "33"
    found = rows(seen.proc("limits"))
    assert found["Max open files"][:2] == ["100", "200"]
    assert found["Max core file size"][:2] == ["0", "0"]
    assert found["Max file size"][:2] == ["4096", "4096"]
    assert found["Max file locks"][:2] == ["7", "7"]


def disk() -> str:
    """Path and number of a whole disk of the host."""
    for name in sorted(os.listdir("/sys/block")):
        if not name.startswith(("loop", "ram", "zram", "dm-", "sr")) and os.path.exists(
            f"/dev/{name}"
        ):
            return f"/dev/{name}"
    pytest.skip("this host has no disk")


def test_throughput_of_a_disk(legacy: Instance) -> None:
    path = disk()
    info = os.stat(path)
    key = f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}"
    seen = limited(
        legacy,
        device_read_bps=[f"{path}:10m"],
        device_write_bps=[f"{path}:20m"],
        device_read_iops=[f"{path}:300"],
        device_write_iops=[f"{path}:400"],
    )
    for name, value in (
        ("read_bps", 10 * MIB), ("write_bps", 20 * MIB), ("read_iops", 300), ("write_iops", 400)
    ):  # fmt: skip
        assert seen.limit(("blkio", f"blkio.throttle.{name}_device"), ("", "")) == f"{key} {value}"


def test_weight_of_disks(legacy: Instance) -> None:
    try:
        seen = limited(legacy, blkio_weight=300)
    except Unsupported:
        pytest.skip("this kernel has no weights of disks")
    group = legacy.engine.cgroups.open(seen.spec.id)
    names = ("blkio.weight", "blkio.bfq.weight")
    [file] = [name for name in names if Path(group.paths["blkio"], name).exists()]
    assert seen.limit(("blkio", file), ("", "")).splitlines()[0].split()[-1] == "300"


def test_weight_of_one_disk(legacy: Instance) -> None:
    path = disk()
    info = os.stat(path)
    key = f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}"
    try:
        seen = limited(legacy, blkio_weight_device=[f"{path}:300"])
    except (SpecInvalid, Unsupported) as error:
        told = str(error.extra["field"])
        message = error.message
    else:
        file = Path(
            legacy.engine.cgroups.open(seen.spec.id).paths["blkio"], "blkio.bfq.weight_device"
        )
        assert f"{key} 300" in file.read_text().splitlines()
        told = message = ""
    # A disk whose scheduler knows no weights is named, not passed over.
    bfq = "[bfq]" in Path(f"/sys/block/{Path(path).name}/queue/scheduler").read_text()
    assert told == ("" if bfq else "limits.blkio_weight_device")
    assert bfq or "scheduler" in message


def test_huge_pages_where_there_are_none_are_refused_with_the_reason(instance: Instance) -> None:
    if instance.engine.cgroups.hierarchies.has("hugetlb"):
        seen = limited(instance, hugetlb={"2MB": "4m"})
        v1, v2 = "hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max"
        assert int(seen.limit(("hugetlb", v1), ("hugetlb", v2))) == 4 * MIB
        return
    with pytest.raises(Unsupported) as caught:
        instance.create(asked(instance, limits={"hugetlb": {"2MB": "4m"}}))
    assert caught.value.extra["field"] == "limits.hugetlb"


# -- changed while it runs -----------------------------------------------------------------------


def changed(seen: Seen, **limits: Any) -> None:
    wanted = LimitsRequest.model_validate(limits).to_limits()
    seen.instance.engine.update(seen.spec.id, limits=wanted)


def test_every_limit_changes_under_the_running_container(legacy: Instance) -> None:
    path = disk()
    seen = limited(legacy, memory="256m")
    pid = seen.pid
    changed(
        seen, memory="64m", memory_swap="-1", memory_reservation="32m", memory_swappiness=5,
        oom_kill_disable=True, oom_score_adj=12, cpu_period=50000, cpu_quota=25000, cpu_shares=300,
        cpuset_cpus="0", pids=44, device_read_bps=[f"{path}:1m"],
    )  # fmt: skip
    assert seen.pid == pid
    assert int(seen.limit(*MEMORY)) == 64 * MIB
    assert int(seen.limit(*SOFT)) == 32 * MIB
    assert seen.limit(*QUOTA) == "25000"
    assert seen.limit(*PIDS) == "44"
    assert seen.status("Cpus_allowed_list") == "0"
    assert seen.proc("oom_score_adj").strip() == "12"
    assert seen.limit(("blkio", "blkio.throttle.read_bps_device"), ("", "")).endswith(f" {MIB}")
    changed(seen)
    assert int(seen.limit(*MEMORY)) > 2**60
    assert seen.status("Cpus_allowed_list") == everything("cpus")
    usual = Path("/proc/sys/vm/swappiness").read_text().strip()
    assert seen.limit(("memory", "memory.swappiness"), ("", "")) == usual
    assert seen.limit(*QUOTA) == "-1"
    assert seen.limit(*PIDS) == "max"
    assert seen.proc("oom_score_adj").strip() == "0"
    assert seen.limit(("blkio", "blkio.throttle.read_bps_device"), ("", "")) == ""


def test_the_next_life_and_further_processes_have_the_changed_limits(instance: Instance) -> None:
    seen = started(instance, restart="always", ulimits=["nofile=100:200"], shm_size="2m")
    first = seen.pid
    seen.instance.engine.update(
        seen.spec.id,
        limits=Limits(oom_score_adj=77),
        ulimits=[Ulimit("nofile", 90, 150), Ulimit("core", 0, 0)],
        shm_size=4 * MIB,
    )
    for pid in (first, 0):
        if pid == 0:
            os.kill(first, 9)
            wait_until(lambda: seen.state.restart_count == 1 and seen.pid not in (0, first))
        assert seen.proc("oom_score_adj").strip() == "77"
        assert rows(seen.proc("limits"))["Max open files"][:2] == ["90", "150"]
        assert rows(seen.proc("limits"))["Max core file size"][:2] == ["0", "0"]
        assert seen.run("cat", "/proc/self/oom_score_adj") == "77"
        assert rows(seen.run("cat", "/proc/self/limits"))["Max open files"][:2] == ["90", "150"]
        assert "size=4096k" in seen.mount("/dev/shm").superblock


def test_an_ulimit_that_is_taken_away_is_that_of_a_container_without(instance: Instance) -> None:
    usual = rows(started(instance).proc("limits"))["Max core file size"]
    seen = started(instance, ulimits=["core=0:-1"])
    assert rows(seen.proc("limits"))["Max core file size"][0] == "0"
    instance.engine.update(seen.spec.id, ulimits=[])
    assert rows(seen.proc("limits"))["Max core file size"] == usual


def test_shared_memory_does_not_become_smaller_than_what_is_in_it(instance: Instance) -> None:
    seen = started(instance, ulimits=["nofile=100:200"], shm_size="8m", limits={"pids": 50})
    seen.run("dd", "if=/dev/zero", "of=/dev/shm/x", "bs=1M", "count=6")
    before = fingerprint(seen), seen.proc("limits")
    with pytest.raises(SpecInvalid) as caught:
        instance.engine.update(
            seen.spec.id, limits=Limits(pids=60), ulimits=[Ulimit("nofile", 9, 9)], shm_size=MIB
        )
    assert caught.value.field == "shm_size"
    assert (fingerprint(seen), seen.proc("limits")) == before
    assert "size=8192k" in seen.mount("/dev/shm").superblock
    shared = started(instance, ipc=f"container:{seen.spec.id}")
    with pytest.raises(SpecInvalid, match="of its own"):
        instance.engine.update(shared.spec.id, shm_size=MIB)


def test_a_hard_limit_that_the_host_cannot_raise_changes_nothing(instance: Instance) -> None:
    if capabilities.bounding() >> capabilities.NUMBERS["SYS_RESOURCE"] & 1:
        pytest.skip("this host's root may raise every limit")
    seen = started(instance, ulimits=["nofile=100:200", "core=0"], limits={"pids": 50})
    before = fingerprint(seen), seen.proc("limits")
    with pytest.raises(SpecInvalid, match="raise nofile") as caught:
        instance.engine.update(
            seen.spec.id,
            limits=Limits(pids=60),
            ulimits=[Ulimit("core", 0, 0), Ulimit("fsize", 1, 1), Ulimit("nofile", 100, 300)],
        )
    assert caught.value.field == "ulimits"
    assert (fingerprint(seen), seen.proc("limits")) == before


def rows(text: str) -> dict[str, list[str]]:
    """/proc/<pid>/limits: soft, hard and unit by name."""
    return {line[:26].strip(): line[26:].split() for line in text.splitlines()}


def fingerprint(seen: Seen) -> dict[str, str]:
    """Everything that a change of limits may touch."""
    group = seen.instance.engine.cgroups.open(seen.spec.id)
    found = {}
    for controller, directory in group.paths.items():
        for path in sorted(Path(directory).glob("*")):
            if any(word in path.name for word in ("limit", "max", "shares", "cfs", "weight", "cpus",
                                                  "swappiness", "_device", "oom_control")):  # fmt: skip
                if "usage" in path.name or "pressure" in path.name:
                    continue
                try:
                    found[f"{controller} {path.name}"] = path.read_text()
                except OSError:
                    continue
    found["score"] = seen.proc("oom_score_adj")
    found["cpus"], found["nodes"] = seen.status("Cpus_allowed"), seen.status("Mems_allowed")
    return found


@pytest.mark.parametrize(
    "impossible",
    [
        {"cpuset_mems": "63"},
        {"device_read_bps": {"/dev/null": 1}},
        {"hugetlb": {"2MB": "4m"}},
        {"memory": "6m"},
    ],
)
def test_one_impossible_value_changes_nothing(
    instance: Instance, impossible: dict[str, Any]
) -> None:
    if "hugetlb" in impossible and instance.engine.cgroups.hierarchies.has("hugetlb"):
        pytest.skip("this host has huge pages")
    # It holds 20 MiB, so that 6 could not be.
    seen = started(
        instance,
        command="sh -c 'dd if=/dev/zero of=/dev/shm/x bs=1M count=20 && sleep 1000'",
        limits={"memory": "64m", "pids": 50, "cpus": 0.5, "oom_score_adj": 5},
    )
    held = seen.file("/dev/shm/x")
    wait_until(lambda: held.exists() and held.stat().st_size == 20 * MIB)
    before = fingerprint(seen)
    wanted = LimitsRequest.model_validate(
        {"memory": "128m", "pids": 60, "cpus": 1, "oom_score_adj": 9, **impossible}
    ).to_limits()
    with pytest.raises(EngineError) as caught:
        instance.engine.update(seen.spec.id, limits=wanted, restart=Restart("always"))
    assert str(caught.value.extra["field"]).startswith(f"limits.{next(iter(impossible))}")
    # A cpuset made on the way stays, with everything in it allowed.
    after = fingerprint(seen)
    assert {name: after[name] for name in before} == before
    kept = instance.engine.inspect(seen.spec.id)
    assert kept.limits == Limits(memory=64 * MIB, pids=50, cpus=0.5, oom_score_adj=5)
    assert kept.restart == Restart("no")


def test_a_policy_that_cannot_be_leaves_the_limits_alone(instance: Instance) -> None:
    seen = started(instance, limits={"pids": 50}, auto_remove=True)
    with pytest.raises(SpecInvalid):
        instance.engine.update(seen.spec.id, limits=Limits(pids=60), restart=Restart("always"))
    assert seen.limit(*PIDS) == "50"
