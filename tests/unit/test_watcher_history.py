"""What is kept of the last minutes, for pages that are opened later."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace

import pytest

from runtime.model.stats import HostSample, StatsSample
from workers.watcher.history import RECENT, SPAN, History
from workers.watcher.stats import Sampler

A, B = "a" * 64, "b" * 64
FIRST = StatsSample(id=A, time=1000.0, cpu_usage=0, memory=256)


class Engine:
    def __init__(self, sample: StatsSample) -> None:
        self._sample = sample

    def stats_of(self, ids: Collection[str]) -> list[StatsSample]:
        return [self._sample for _ in ids]

    def host_sample(self) -> HostSample:
        raise AssertionError


class World:
    def __init__(self) -> None:
        self.time = 1000.0
        self.history = History(clock=lambda: self.time)

    def read(self, container_id: str, seconds: int) -> None:
        """A reading each ten seconds of one that keeps half a core busy."""
        for _ in range(seconds // 10):
            self.time += 10
            used = int((self.time - 1000.0) * 5e8)
            self.history.look(container_id, replace(FIRST, time=self.time, cpu_usage=used))


@pytest.fixture
def world() -> World:
    return World()


def test_readings_have_rates_and_come_oldest_first(world: World) -> None:
    world.read(A, 40)
    readings = json.loads(world.history.container(A))
    assert [reading["time"] for reading in readings] == [1020.0, 1030.0, 1040.0]
    assert [reading["cpu_percent"] for reading in readings] == [50.0, 50.0, 50.0]


def test_after_a_pause_rates_begin_anew(world: World) -> None:
    world.read(A, 20)
    world.time += 60
    world.read(A, 20)
    readings = json.loads(world.history.container(A))
    assert [reading["time"] for reading in readings] == [1020.0, 1100.0]


def test_the_first_sample_that_somebody_sees_has_rates(world: World) -> None:
    world.read(A, 10)
    now = replace(FIRST, time=world.time + 4, cpu_usage=7_000_000_000)
    sampler = Sampler(Engine(now), lambda: now.time, earlier=world.history.last)
    assert json.loads(sampler.sample([A])[A])["cpu_percent"] == 50.0


def test_only_the_last_minutes_are_kept(world: World) -> None:
    world.read(A, 3 * int(SPAN))
    readings = json.loads(world.history.container(A))
    assert readings[0]["time"] == world.time - SPAN
    assert len(readings) == SPAN / 10 + 1


def test_of_everything_the_last_minute_is_told(world: World) -> None:
    world.read(A, int(SPAN))
    world.read(B, 20)
    told = json.loads(world.history.everything())
    assert {i: len(readings) for i, readings in told.items()} == {A: RECENT / 10 - 1, B: 1}


def test_what_has_ended_is_kept_as_long_and_then_forgotten(world: World) -> None:
    world.read(A, 20)
    world.history.forget()
    assert len(json.loads(world.history.container(A))) == 1
    world.time += SPAN + 1
    world.history.forget()
    assert world.history.container(A) == "[]"


def test_the_hosts_readings_have_rates(world: World) -> None:
    before = HostSample(1000.0, 10.0, 100.0, 2, 1000, 600, 100, 50, 0, 0, 0.5)
    world.history.look_at_host(before)
    world.history.look_at_host(replace(before, time=1010.0, cpu_busy=20.0, cpu_total=120.0))
    assert [reading["cpu_percent"] for reading in json.loads(world.history.host())] == [100]
