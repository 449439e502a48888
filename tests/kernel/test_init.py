"""An init of our own as process 1 (docker run --init): it reaps, and passes signals on."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from runtime.errors import InitFailed
from tests.support.launching import Launchpad
from tests.support.waiting import wait_until


@pytest.fixture
def pad() -> Iterator[Launchpad]:
    with Launchpad() as made:
        yield made


def test_init_reaps_what_others_leave(pad: Launchpad) -> None:
    script = "for i in 1 2 3; do (sleep 0.05 &) ; done; sleep 0.3; ps -o stat | grep -c Z; echo $$"
    without = pad.run(pad.plan("sh", "-c", script + "; true"))
    assert without[0].code == 0
    record, text = pad.run(pad.shell(script, process={"init": True}))
    assert record.code == 0
    zombies, pid = text.split()
    assert zombies == "0"
    assert pid != "1"


def test_init_passes_signals_on_and_ends_as_the_command_does(pad: Launchpad) -> None:
    script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done"
    plan = pad.shell(script, process={"init": True})
    pad.start(plan)
    pad.wait_for_output(plan, "ready")
    record = pad.shim(plan).stop(None, 5)
    assert (record.code, record.reason) == (7, "stopped")
    # A command that does not care for the signal as process 1 would: by default it ends any other.
    plain = pad.plan("sleep", "1000", process={"init": True})
    pad.start(plain)
    assert pad.shim(plain).stop(None, 5).code == 143


def test_a_command_that_init_cannot_run_says_why(pad: Launchpad) -> None:
    with pytest.raises(InitFailed, match="missing") as caught:
        pad.start(pad.plan("missing", process={"init": True}))
    assert caught.value.exit_code == 127


def test_init_dies_with_its_monitor(pad: Launchpad) -> None:
    state = pad.start(pad.plan("sleep", "1000", process={"init": True}))
    os.kill(state.shim_pid, 9)
    wait_until(lambda: not pad.processes("containers/"), what="the container to die with it")
