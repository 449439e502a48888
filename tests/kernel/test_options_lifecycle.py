"""Options of a container's life: how it ends, and whether it comes back."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from runtime.model.spec import Restart
from runtime.model.state import Status
from tests.support.engine import Instance
from tests.support.options import asked, started
from tests.support.waiting import wait_until

TRAP = "trap 'echo got; exit 5' {signal}; echo ready; while :; do sleep 0.05; done"


@pytest.fixture
def instance() -> Iterator[Instance]:
    with Instance() as made:
        yield made


@pytest.mark.parametrize(("asked_for", "trapped"), [("SIGUSR1", "USR1"), ("34", "34")])
def test_it_is_stopped_by_its_signal(instance: Instance, asked_for: str, trapped: str) -> None:
    seen = started(
        instance, command=["sh", "-c", TRAP.format(signal=trapped)], stop_signal=asked_for,
        stop_timeout=60, init=False,
    )  # fmt: skip
    instance.wait_for_output(seen.spec, "ready")
    record = instance.engine.stop(seen.spec.id)
    assert record is not None
    assert record.code == 5
    assert "got" in instance.output(seen.spec)


def test_it_is_killed_when_its_time_is_over(instance: Instance) -> None:
    seen = started(
        instance, command=["sh", "-c", "trap '' TERM; echo ready; sleep 1000"], stop_timeout=1,
        init=False,
    )  # fmt: skip
    instance.wait_for_output(seen.spec, "ready")
    record = instance.engine.stop(seen.spec.id)
    assert record is not None
    assert (record.code, record.signal) == (137, 9)
    assert 1.0 <= record.finished_at - record.started_at < 5.0


def test_a_policy_brings_it_back_as_often_as_it_says(instance: Instance) -> None:
    spec = instance.run(
        asked(instance, command=["sh", "-c", "echo $$; exit 3"], restart="on-failure:2")
    )
    instance.wait_for(spec, Status.EXITED, timeout=20)
    assert [r.code for r in instance.engine.exits(spec.id)] == [3, 3, 3]
    gone = instance.run(asked(instance, command=["true"], restart="on-failure"))
    instance.wait_for(gone, Status.EXITED)
    assert len(instance.engine.exits(gone.id)) == 1


@pytest.mark.parametrize("policy", ["always", "unless-stopped"])
def test_a_new_process_takes_the_place_of_one_that_ends(instance: Instance, policy: str) -> None:
    seen = started(instance, restart=policy)
    before = seen.pid
    # Killed from outside, not by us: we would not want it back.
    os.kill(before, 9)
    wait_until(lambda: seen.state.restart_count == 1 and seen.pid not in (0, before), timeout=20)
    instance.engine.stop(seen.spec.id, timeout=0)
    assert instance.status(seen.spec) == Status.EXITED


def test_a_changed_policy_holds_from_its_next_end(instance: Instance) -> None:
    seen = started(instance, command=["sleep", "0.3"], restart="always")
    instance.engine.update(seen.spec.id, restart=Restart("no"))
    instance.wait_for(seen.spec, Status.EXITED)
    assert instance.engine.inspect(seen.spec.id).restart == Restart("no")


def test_removal_leaves_nothing_of_it(instance: Instance) -> None:
    spec = instance.run(
        asked(
            instance,
            command=["true"],
            auto_remove=True,
            volumes=["/scratch"],
            on=instance.network(),
        )
    )
    instance.wait_for(spec, Status.EXITED)
    # What the watcher asks for when such a container has ended.
    instance.engine.remove(spec.id, force=True, volumes=True)
    # The bridge is the network's, not the container's; a monitor says that it has ended, and then ends.
    wait_until(
        lambda: not [left for left in instance.leftovers() if not left.startswith("link ")],
        timeout=2,
        what=f"nothing to be left of {instance.leftovers()}",
    )
    assert instance.engine.volumes.list() == []
