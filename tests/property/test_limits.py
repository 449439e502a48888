"""Whatever limits are asked for, cgroup v1 and v2 are told the same thing, and a reset undoes everything."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.cgroups import limits as table
from runtime.cgroups.limits import io_weight_of, settings, weight_of
from runtime.model.spec import Limits

MIB = 2**20
DISKS = {"/dev/a": "8:0", "/dev/b": "8:16"}
UNLIMITED = None

memory = st.integers(6 * MIB, 2**50)
by_disk = st.dictionaries(st.sampled_from(sorted(DISKS)), st.integers(1, 2**40), max_size=2)
weights = st.dictionaries(st.sampled_from(sorted(DISKS)), st.integers(10, 1000), max_size=2)


@st.composite
def limits(draw: st.DrawFn) -> Limits:
    size = draw(st.none() | memory)
    swap = draw(st.sampled_from([None, -1, 0, 1]))
    if swap in (0, 1):
        swap = None if size is None else size + swap * draw(st.integers(0, 2**40))
    quota: dict[str, Any] = {"cpus": draw(st.none() | st.floats(0.01, 1024))}
    if quota["cpus"] is None:
        quota = {
            "cpu_quota": draw(st.none() | st.just(-1) | st.integers(1000, 2**40)),
            "cpu_period": draw(st.none() | st.integers(1000, 1_000_000)),
        }
    return Limits(
        memory=size,
        memory_swap=swap,
        memory_reservation=draw(st.none() | memory),
        cpu_shares=draw(st.none() | st.integers(2, 262144)),
        pids=draw(st.none() | st.just(-1) | st.integers(1, 4194304)),
        blkio_weight=draw(st.none() | st.integers(10, 1000)),
        blkio_weight_device=draw(weights),
        device_read_bps=draw(by_disk),
        device_write_bps=draw(by_disk),
        device_read_iops=draw(by_disk),
        device_write_iops=draw(by_disk),
        cpuset_cpus=draw(st.sampled_from(["", "0"])),
        **quota,
    )


@pytest.fixture(autouse=True, scope="module")
def disks() -> Any:
    """Disks that this host need not have."""
    patch = pytest.MonkeyPatch()
    patch.setattr(table, "device_number", lambda path, field: DISKS[path])
    yield
    patch.undo()


def told(asked: Limits, version: str, *, reset: bool) -> dict[str, Any]:
    """What the values mean: limits by their names, in bytes, cores and weights of v2; None is no limit."""
    meaning: dict[str, Any] = {}
    raw: dict[str, str] = {}
    for s in settings(asked, version, lambda c, f: "bfq" not in f, reset=reset):
        if s.key:
            _device(meaning, s.file, s.key, s.value)
        else:
            raw[s.file] = s.value
    meaning |= _v1(raw) if version == "v1" else _v2(raw)
    return {name: value for name, value in meaning.items() if value is not UNLIMITED}


def _number(text: str | None) -> int | None:
    return UNLIMITED if text in (None, "-1", "max") else int(text or 0)


def _v1(raw: dict[str, str]) -> dict[str, Any]:
    size, both = (_number(raw.get(f"memory.{n}limit_in_bytes")) for n in ("", "memsw."))
    quota = _number(raw.get("cpu.cfs_quota_us"))
    shares, weight = raw.get("cpu.shares"), raw.get("blkio.weight")
    return {
        "memory": size,
        "swap": UNLIMITED if both is None else both - (size or 0),
        "soft": _number(raw.get("memory.soft_limit_in_bytes")),
        "cores": UNLIMITED if quota is None else quota / int(raw["cpu.cfs_period_us"]),
        "cpu weight": weight_of(int(shares)) if shares not in (None, "1024") else None,
        "pids": _number(raw.get("pids.max")),
        "disk weight": io_weight_of(int(weight)) if weight not in (None, "500") else None,
        "cores allowed": c if (c := raw.get("cpuset.cpus")) != table.everything("cpus") else None,
    }


def _v2(raw: dict[str, str]) -> dict[str, Any]:
    quota, _, period = raw.get("cpu.max", "max 100000").partition(" ")
    weight = raw.get("io.weight", "default 100").removeprefix("default ")
    return {
        "memory": _number(raw.get("memory.max")),
        "swap": _number(raw.get("memory.swap.max")),
        "soft": _number(raw.get("memory.low")) or UNLIMITED,
        "cores": UNLIMITED if quota == "max" else int(quota) / int(period),
        "cpu weight": int(w) if (w := raw.get("cpu.weight", "100")) != "100" else None,
        "pids": _number(raw.get("pids.max")),
        "disk weight": int(weight) if weight not in ("100", str(io_weight_of(500))) else None,
        "cores allowed": c if (c := raw.get("cpuset.cpus")) != table.everything("cpus") else None,
    }


_V1_TABLES = {"read_bps": "rbps", "write_bps": "wbps", "read_iops": "riops", "write_iops": "wiops"}


def _device(meaning: dict[str, Any], file: str, key: str, value: str) -> None:
    words = value.split()[1:]
    if file.startswith("blkio.throttle."):
        name = file.removeprefix("blkio.throttle.").removesuffix("_device")
        meaning[f"{key} {_V1_TABLES[name]}"] = int(words[0])
    elif file == "io.max":
        for word in words:
            name, _, amount = word.partition("=")
            meaning[f"{key} {name}"] = _number(amount)
    else:
        weight = int(words[0])
        meaning[f"{key} weight"] = io_weight_of(weight) if file.startswith("blkio") else weight


@given(limits(), st.booleans())
def test_both_versions_are_told_the_same(asked: Limits, reset: bool) -> None:
    v1, v2 = (told(asked, version, reset=reset) for version in ("v1", "v2"))
    # A weight that is the other version's default is not told apart from none.
    for name in ("cpu weight", "disk weight"):
        if v1.get(name) != v2.get(name):
            assert (
                asked.cpu_shares in (None, 1024)
                or weight_of(asked.cpu_shares) == 100
                or name != "cpu weight"
            )
            assert asked.blkio_weight in (None, 500) or name != "disk weight"
            v1.pop(name, None), v2.pop(name, None)
    assert v1 == v2


@given(limits())
def test_what_is_told_is_what_was_asked(asked: Limits) -> None:
    for version in ("v1", "v2"):
        found = told(asked, version, reset=False)
        assert found.get("memory") == asked.memory
        assert found.get("pids") == (None if asked.pids == -1 else asked.pids)
        if asked.memory is not None:
            both = {None: 2 * asked.memory, -1: None}.get(asked.memory_swap, asked.memory_swap)
            assert found.get("swap") == (None if both is None else both - asked.memory)
        if asked.cpus is not None:
            assert found["cores"] == pytest.approx(asked.cpus, rel=0.01, abs=1e-4)


@given(limits())
def test_a_reset_leaves_no_limit_behind(asked: Limits) -> None:
    for version in ("v1", "v2"):
        files = {s.file for s in settings(asked, version, lambda c, f: "bfq" not in f, reset=False)
                 if not s.key}  # fmt: skip
        bare = settings(Limits(), version, lambda c, f: "bfq" not in f, reset=True)
        assert files <= {s.file for s in bare}
        assert told(Limits(), version, reset=True) == {}
