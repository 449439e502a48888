"""Limits as a user meets them: killed for memory, throttled, held to a number of processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runtime.errors import NotFound, SpecInvalid, Unsupported
from runtime.model.spec import Limits, Restart
from runtime.model.state import Status
from tests.support.engine import Instance
from tests.support.waiting import wait_until
from workers.watcher import throttling

MIB = 2**20
# busybox has no allocator of its own to call; dd's buffer is one allocation that it fills.
HOG = "dd if=/dev/zero of=/dev/null bs=200M count=1"


@pytest.fixture
def instance() -> Iterator[Instance]:
    with Instance() as made:
        yield made


def test_too_much_memory_is_seen_as_such(instance: Instance) -> None:
    spec = instance.run(
        instance.spec(*HOG.split(), limits=Limits(memory=32 * MIB, memory_swap=32 * MIB))
    )
    record = instance.engine.wait(spec.id, 20)
    assert record is not None
    assert record.oom_killed
    assert (record.code, record.reason) == (137, "oom_killed")
    observed = instance.wait_for(spec, Status.EXITED)
    assert observed.run is not None
    assert observed.run.exit is not None
    assert observed.run.exit.oom_killed


def test_a_child_killed_for_memory_shows_in_the_stats(instance: Instance) -> None:
    spec = instance.run(
        instance.shell(
            f"{HOG}; exec sleep 1000", limits=Limits(memory=32 * MIB, memory_swap=32 * MIB)
        )
    )
    wait_until(lambda: instance.engine.stats(spec.id).oom_kills == 1, timeout=20)
    assert instance.status(spec) == Status.RUNNING


def test_throttling_shows_in_the_stats(instance: Instance) -> None:
    spec = instance.run(instance.shell("while :; do :; done", limits=Limits(cpus=0.1)))
    sample = wait_until(
        lambda: s if (s := instance.engine.stats(spec.id)).cpu_throttled_periods > 3 else None
    )
    assert sample.cpu_limit == pytest.approx(0.1)
    assert sample.cpu_throttled_time > 0
    assert sample.cpu_usage > 0


def test_heavy_throttling_is_told_from_the_kernel_s_own_counters(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttling, "WINDOW", 2.0)
    monkeypatch.setattr(throttling, "FEWEST", 5)
    spec = instance.run(instance.shell("while :; do :; done", limits=Limits(cpus=0.1)))
    told: list[tuple[str, float]] = []
    watch = throttling.Throttling(lambda _, kind, data: told.append((kind, data["share"])))

    def look() -> bool:
        watch.look(spec.id, instance.engine.stats(spec.id))
        return bool(told)

    wait_until(look, every=0.5, timeout=20)
    assert told[0][0] == "container.throttled"
    assert 0.5 < told[0][1] <= 1


def test_processes_are_limited(instance: Instance) -> None:
    spec = instance.run(
        instance.shell(
            "(for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done); sleep 1000", limits=Limits(pids=6)
        )
    )
    wait_until(lambda: "can't fork" in instance.output(spec, "stderr"))
    assert instance.engine.stats(spec.id).pids <= 6


def test_the_counters_of_a_policy_restart_begin_anew_for_oom(instance: Instance) -> None:
    spec = instance.run(
        instance.shell(
            "test -e /tried && exit 0; touch /tried; exec " + HOG,
            limits=Limits(memory=32 * MIB, memory_swap=32 * MIB),
            restart=Restart("on-failure", 3),
        )
    )
    observed = instance.wait_for(spec, Status.EXITED, timeout=20)
    assert observed.run is not None
    assert [r.oom_killed for r in instance.engine.exits(spec.id)] == [True, False]


@pytest.mark.parametrize(
    ("field", "limits"),
    [
        ("limits.memory", Limits(memory=4 * MIB)),
        ("limits.cpus", Limits(cpus=4000)),
        ("limits.cpuset_cpus", Limits(cpuset_cpus="900")),
        ("limits.device_read_bps", Limits(device_read_bps={"/dev/nothing": 1})),
    ],
)
def test_impossible_limits_are_refused_and_nothing_is_made(
    instance: Instance, field: str, limits: Limits
) -> None:
    with pytest.raises((SpecInvalid, Unsupported)) as caught:
        instance.create(instance.spec(limits=limits))
    assert caught.value.extra["field"] == field
    instance.check_nothing_left()


def test_an_impossible_change_changes_nothing(instance: Instance) -> None:
    before = Limits(memory=64 * MIB, pids=50)
    spec = instance.run(instance.spec(limits=before))
    with pytest.raises(SpecInvalid):
        instance.engine.update(spec.id, limits=Limits(memory=128 * MIB, cpuset_cpus="900"))
    assert instance.engine.inspect(spec.id).limits == before
    assert instance.engine.stats(spec.id).memory_limit == 64 * MIB


def test_a_container_that_does_not_run_has_no_stats(instance: Instance) -> None:
    spec = instance.create(instance.spec())
    with pytest.raises(NotFound):
        instance.engine.stats(spec.id)


def test_the_host_is_measured(instance: Instance) -> None:
    first, second = instance.engine.host_sample(), instance.engine.host_sample()
    assert 0 < first.memory_available <= first.memory_total
    assert second.cpu_total >= first.cpu_total >= first.cpu_busy
    facts = instance.engine.host_facts()
    assert facts["cgroup"]["version"] in ("v1", "v2")
    assert facts["overlay"]
