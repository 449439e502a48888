"""Limits become the right files and values on v1 and v2, without a kernel."""

from __future__ import annotations

import itertools

import pytest

from runtime.cgroups.detect import detect
from runtime.cgroups.limits import Setting, io_weight_of, settings, weight_of
from runtime.cgroups.parse import (
    blkio_bytes,
    cpu_max,
    flat_keyed,
    io_stat,
    number,
    ordered,
    pressure,
)
from runtime.errors import SpecInvalid, Unsupported
from runtime.model.spec import Limits

MIB = 2**20


def values(limits: Limits, version: str, *, reset: bool = False) -> dict[str, str]:
    made = settings(limits, version, lambda controller, file: "bfq" not in file, reset=reset)
    return {s.file: s.value for s in made}


def test_v1() -> None:
    assert values(
        Limits(memory=64 * MIB, cpus=0.5, cpu_shares=512, pids=10, blkio_weight=300), "v1"
    ) == {
        "memory.limit_in_bytes": str(64 * MIB),
        "memory.memsw.limit_in_bytes": str(128 * MIB),
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "50000",
        "cpu.shares": "512",
        "pids.max": "10",
        "blkio.weight": "300",
    }


def test_v2() -> None:
    assert values(
        Limits(memory=64 * MIB, memory_swap=96 * MIB, cpus=0.5, cpu_shares=1024, pids=-1), "v2"
    ) == {
        "memory.max": str(64 * MIB),
        "memory.swap.max": str(32 * MIB),
        "cpu.max": "50000 100000",
        "cpu.weight": "100",
        "pids.max": "max",
    }


def test_swap_that_nobody_asked_for_may_be_missing() -> None:
    for version in ("v1", "v2"):
        asked = {
            s.field: s.asked
            for s in settings(Limits(memory=64 * MIB), version, lambda c, f: True, reset=False)
        }
        assert asked == {"memory": True, "memory_swap": False}


def test_no_limits_write_nothing_and_reset_everything() -> None:
    assert values(Limits(), "v1") == {}
    assert values(Limits(), "v2") == {}
    reset = values(Limits(), "v1", reset=True)
    assert reset["memory.limit_in_bytes"] == "-1"
    assert reset["cpu.cfs_quota_us"] == "-1"
    assert reset["pids.max"] == "max"
    assert values(Limits(), "v2", reset=True)["cpu.max"] == "max 100000"


def test_an_update_takes_limits_of_huge_pages_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "runtime.cgroups.limits.os.listdir",
        lambda path: ["hugepages-64kB", "hugepages-2048kB", "hugepages-1048576kB"],
    )  # fmt: skip
    asked = Limits(hugetlb={"2MB": 4 * MIB})
    assert values(asked, "v1") == {"hugetlb.2MB.limit_in_bytes": str(4 * MIB)}
    first = values(asked, "v1", reset=True)
    assert first["hugetlb.2MB.limit_in_bytes"] == str(4 * MIB)
    assert first["hugetlb.1GB.limit_in_bytes"] == first["hugetlb.64KB.limit_in_bytes"] == "-1"
    second = values(asked, "v2", reset=True)
    assert (second["hugetlb.2MB.max"], second["hugetlb.1GB.max"]) == (str(4 * MIB), "max")
    unasked = {
        s.file
        for s in settings(asked, "v2", lambda *_: True, reset=True)
        if s.controller == "hugetlb" and not s.asked
    }
    assert unasked == {"hugetlb.1GB.max", "hugetlb.64KB.max"}, "a host without them is no error"


def test_weights_meet_at_the_defaults_and_never_fall() -> None:
    assert (weight_of(2), weight_of(1024), weight_of(262144)) == (1, 100, 10000)
    assert (io_weight_of(10), io_weight_of(1000)) == (1, 10000)
    curve = [weight_of(s) for s in range(2, 262145, 97)]
    assert all(a <= b for a, b in itertools.pairwise(curve))


def test_a_device_that_is_none_is_refused_with_its_field() -> None:
    for path in ("/dev/null", "/dev/no-such-thing"):
        with pytest.raises(SpecInvalid) as caught:
            values(Limits(device_read_bps={path: 1}), "v1")
        assert caught.value.field == "limits.device_read_bps"


def test_setting_defaults() -> None:
    assert Setting("pids", "pids.max", "1", "pids").asked


# -- formats ------------------------------------------------------------------------------------


def test_some_lines_are_picked_from_a_long_file() -> None:
    text = "cache 1\ntotal_cache 22\nrss 3\ntotal_swap 4"
    assert ordered(text, ("cache ", "\ntotal_cache ", "\nswap ", "\ntotal_swap ")) == [1, 22, 0, 4]


def test_another_order_of_the_lines_is_found_too() -> None:
    assert ordered("b 2\na 1\n", ("a ", "b ")) == [1, 2]
    assert ordered("", ("a ",)) == [0]


def test_formats() -> None:
    assert flat_keyed("nr_periods 5\nnr_throttled 2\nodd x\n") == {
        "nr_periods": 5,
        "nr_throttled": 2,
    }
    assert [number(t) for t in ("max\n", "-1", "9223372036854771712", "42")] == [0, 0, 0, 42]
    assert io_stat("8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=1 wbytes=2\n") == (11, 22)
    assert blkio_bytes("8:0 Read 10\n8:0 Write 20\n8:0 Sync 1\nTotal 30\n") == (10, 20)
    assert (cpu_max("max 100000\n"), cpu_max("150000 100000\n")) == (0.0, 1.5)
    psi = "some avg10=1.50 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.25 avg60=0 total=0\n"
    assert pressure(psi, "cpu") == {"cpu.some.avg10": 1.5, "cpu.full.avg10": 0.25}


# -- detection ----------------------------------------------------------------------------------

LEGACY = """\
30 25 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs rw
31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
34 30 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
"""


def test_hybrid_is_v1_when_the_unified_hierarchy_holds_no_controller() -> None:
    found = detect(LEGACY)
    assert found.version == "v1"
    assert found.roots["cpu"] == found.roots["cpuacct"] == "/sys/fs/cgroup/cpu,cpuacct"
    assert found.roots["name=systemd"] == "/sys/fs/cgroup/systemd"
    assert found.unified == "/sys/fs/cgroup/unified"
    assert not found.has("pids")


def test_a_unified_host(tmp_path: object) -> None:
    directory = str(tmp_path)
    with open(f"{directory}/cgroup.controllers", "w", encoding="ascii") as file:
        file.write("cpuset cpu io memory pids\n")
    found = detect(f"30 25 0:26 / {directory} rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n")
    assert found.version == "v2"
    assert set(found.roots) == {"cpuset", "cpu", "io", "memory", "pids"}


def test_no_hierarchy_at_all_is_said() -> None:
    with pytest.raises(Unsupported):
        detect("30 25 0:26 / / rw - ext4 /dev/vda rw\n")
