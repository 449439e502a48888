"""OOM kills as the kernel tells them: by its log, and where that is not to be had by the counter."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.model.spec import Limits
from runtime.model.state import Status
from tests.support.engine import Instance
from tests.support.waiting import wait_until
from workers.watcher.facts import Facts
from workers.watcher.kernel_log import KMSG, KernelLog, OomKill
from workers.watcher.oom import OomKills, pid_in_container

MIB = 2**20
LIMITS = Limits(memory=32 * MIB, memory_swap=32 * MIB)
HOG = "dd if=/dev/zero of=/dev/null bs=200M count=1"


@pytest.fixture
def instance() -> Iterator[Instance]:
    with Instance() as made:
        yield made


@pytest.mark.skipif(not os.access(KMSG, os.R_OK), reason="the kernel's log cannot be read")
def test_the_log_names_the_process_and_the_limit_of_the_moment(instance: Instance) -> None:
    spec = instance.create(instance.shell(f"{HOG}; exec sleep 1000", limits=LIMITS))
    told: list[tuple[OomKill, int | None]] = []

    async def listen() -> None:
        came = asyncio.Event()

        def tell(kill: OomKill) -> None:
            told.append((kill, pid_in_container(kill)))
            came.set()

        log = KernelLog(instance.config.cgroup, tell)
        assert log.open()
        try:
            await asyncio.to_thread(instance.engine.start, spec.id)
            await asyncio.wait_for(came.wait(), 20)
        finally:
            log.close()

    asyncio.run(listen())
    ((kill, pid),) = told
    assert (kill.container, kill.process, kill.limit) == (spec.id[:32], "dd", 32 * MIB)
    assert not kill.host_wide
    assert pid is None or 1 < pid < 10, "as the container counts, unless it had gone already"
    assert instance.status(spec) == Status.RUNNING


def test_without_the_log_the_counter_tells_of_an_unknown_process(instance: Instance) -> None:
    command = f"trap '{HOG}' USR1; echo ready; while :; do sleep 0.05; done"
    spec = instance.run(instance.shell(command, limits=LIMITS))
    wait_until(lambda: "ready" in instance.output(spec))
    told: list[dict[str, Any]] = []
    kills = OomKills(lambda _, facts: told.append(facts))
    facts = Facts(
        instance.engine,
        write=lambda *_: None,
        counted=kills.from_counter,
        looked=lambda *_: None,
    )
    facts.round([spec.id])
    run = instance.engine.observe(spec.id).run
    assert run is not None
    os.kill(run.pid, signal.SIGUSR1)

    def look() -> bool:
        facts.round([spec.id])
        return bool(told)

    wait_until(look, every=0.2, timeout=20)
    assert (told[0]["process"], told[0]["count"], told[0]["limit"]) == ("", 1, 32 * MIB)


def test_a_log_that_cannot_be_read_is_no_failure(tmp_path: Path) -> None:
    async def listen() -> bool:
        log = KernelLog("slipway", lambda _: None, tmp_path / "absent")
        return log.open()

    assert not asyncio.run(listen())
