"""Lives of a container one after the other: what its monitor does by its restart policy."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from runtime.errors import BadState
from runtime.model.codec import from_json
from runtime.model.spec import Restart
from runtime.model.state import RunState, Status
from runtime.store.files import read_json
from tests.support.launching import Launchpad
from tests.support.waiting import wait_until


@pytest.fixture
def pad() -> Iterator[Launchpad]:
    with Launchpad() as made:
        yield made


def test_on_failure_restarts_until_success(pad: Launchpad) -> None:
    script = "n=$(cat /n 2>/dev/null || echo 0); echo $((n + 1)) > /n; echo life $n; test $n = 2"
    plan = pad.shell(script, restart=Restart("on-failure"))
    record, output = pad.run(plan)
    assert (record.code, record.restart_count) == (0, 2)
    assert output.splitlines() == ["life 0", "life 1", "life 2"]
    assert [e.code for e in pad.exits(plan)] == [1, 1, 0]


def test_on_failure_gives_up_after_its_retries(pad: Launchpad) -> None:
    plan = pad.shell("exit 3", restart=Restart("on-failure", 2))
    pad.run(plan)
    assert [(e.code, e.restart_count) for e in pad.exits(plan)] == [(3, 0), (3, 1), (3, 2)]


def test_the_pauses_between_lives_grow(pad: Launchpad) -> None:
    plan = pad.shell("exit 1", restart=Restart("on-failure", 3))
    pad.run(plan)
    ends = pad.exits(plan)
    gaps = [b.started_at - a.finished_at for a, b in pairwise(ends)]
    assert gaps[0] >= 0.1
    assert gaps[1] >= 0.2
    assert gaps[2] >= 0.4


def test_a_restart_keeps_the_network_and_takes_new_processes(pad: Launchpad) -> None:
    script = "readlink /proc/self/ns/net; echo $$; exit 1"
    plan = pad.shell(script, restart=Restart("on-failure", 1))
    _, output = pad.run(plan)
    assert output.split() == [first := output.split()[0], "1", first, "1"]
    assert first != os.readlink("/proc/self/ns/net")


def test_always_restarts_what_was_killed_from_outside(pad: Launchpad) -> None:
    plan = pad.plan("sleep", "1000", restart=Restart("always"))
    first = pad.start(plan)
    os.kill(first.pid, signal.SIGKILL)
    second = wait_until(
        lambda: s if (s := pad.shim(plan).state()).pid not in (0, first.pid) else None
    )
    assert (second.status, second.restart_count) == (Status.RUNNING, 1)
    assert second.exit is not None
    assert second.exit.code == 137
    assert pad.shim(plan).stop(signal.SIGKILL, 0).reason == "stopped"


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_between_two_lives_it_says_when_and_can_be_ended(pad: Launchpad, way: str) -> None:
    plan = pad.shell("exit 1", restart=Restart("always"))
    pad.start(plan)

    def waiting() -> RunState | None:
        state = pad.shim(plan).state()
        # Long enough a pause to be met between two lives.
        return state if state.status == Status.RESTARTING and state.restart_count >= 3 else None

    state = wait_until(waiting)
    assert state.next_restart_at > time.time() - 1
    assert state.pid == 0
    with pytest.raises(BadState) as caught:
        pad.shim(plan).kill(signal.SIGHUP)
    assert tuple(caught.value.extra["allowed"]) == Status.RESTARTING.actions
    if way == "kill":
        # As docker kill: it does not come back.
        pad.shim(plan).kill(signal.SIGKILL)
        record = pad.wait(plan)
    else:
        record = pad.shim(plan).stop()
    assert record.code == 1
    after = from_json(RunState, read_json(pad.config.container_run(plan["id"]) / "state.json"))
    assert (after.status, after.user_stopped) == (Status.EXITED, True)


def test_a_policy_can_be_changed_while_it_runs(pad: Launchpad) -> None:
    plan = pad.shell("read line < /tmp/fifo; exit 1", restart=Restart("always"))
    os.mkfifo(pad.rootfs / "tmp" / "fifo", 0o666)
    state = pad.start(plan)
    pad.shim(plan).update(restart={"name": "no", "max_retries": 0}, stop_timeout=1.0)
    Path(f"/proc/{state.pid}/root/tmp/fifo").write_text("go\n")
    assert pad.wait(plan).restart_count == 0


def test_a_restart_that_cannot_execute_is_an_exit(pad: Launchpad) -> None:
    """The image's file went between two lives: no reason for the monitor to fall over."""
    script = "test -e /done && rm /bin/sh; touch /done; exit 1"
    plan = pad.shell(script, restart=Restart("on-failure", 2))
    pad.run(plan)
    ends = pad.exits(plan)
    assert [e.code for e in ends] == [1, 1, 127]
    assert (ends[-1].reason, bool(ends[-1].error)) == ("start_failed", True)
