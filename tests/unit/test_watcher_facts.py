"""What the advisor learns: when it matters, and never at the price of a busy disk."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from runtime.model.stats import StatsSample
from workers.watcher.facts import WALK_PAUSE, WALK_QUICK, WALK_SHARE, Facts, matters, sample_facts

A, B = "a" * 64, "b" * 64
QUIET = StatsSample(id=A, time=1.0, memory_peak=1000)


class World:
    """Containers to read, a clock, and what was told."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.samples = {A: QUIET}
        self.walked: list[str] = []
        self.walk_takes = 1.0
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.killed: list[str] = []
        self.looked: list[str] = []
        self.facts = Facts(
            self,
            write=lambda i, usage: self.told.append((i, usage)),
            counted=lambda i, sample, grown: self.killed.extend([i] * grown),
            looked=lambda i, sample: self.looked.append(i),
            clock=lambda: self.time,
        )

    def stats_of(self, ids: Collection[str]) -> list[StatsSample]:
        return [self.samples[i] for i in ids if i in self.samples]

    def writable_usage(self, container_id: str) -> Any:
        self.walked.append(container_id)
        self.time += self.walk_takes
        return SimpleNamespace(total=5, paths=[("/data", 5)])


@pytest.fixture
def world() -> World:
    return World()


def test_the_first_reading_is_told(world: World) -> None:
    world.facts.round([A])
    usage = world.told[-1][1]
    assert (usage["memory_peak"], usage["writable_bytes"]) == (1000, 5)
    assert usage["writable_paths"] == [["/data", 5]]


def test_the_same_reading_is_not_told_again(world: World) -> None:
    world.facts.round([A])
    told = len(world.told)
    world.facts.round([A])
    assert len(world.told) == told


def test_throttling_is_a_share_of_the_periods_since_the_last_reading() -> None:
    before = replace(QUIET, cpu_periods=100, cpu_throttled_periods=10)
    now = replace(before, cpu_periods=200, cpu_throttled_periods=60, cpu_throttled_time=2 * 10**9)
    assert sample_facts(now, before)["throttled_share"] == 0.5
    assert sample_facts(now, before)["throttled_seconds"] == 2.0


def test_a_process_killed_over_the_limit_is_told_once(world: World) -> None:
    world.facts.round([A])
    world.samples[A] = replace(QUIET, oom_kills=1)
    world.facts.round([A])
    world.facts.round([A])
    assert world.killed == [A]


def test_a_container_that_ended_meanwhile_is_no_error(world: World) -> None:
    world.facts.round([A, B])
    assert [container_id for container_id, _ in world.told if container_id == A]


def test_one_writable_layer_is_walked_at_a_time_and_rarely(world: World) -> None:
    world.samples[B] = replace(QUIET, id=B)
    world.facts.round([A, B])
    assert len(world.walked) == 1
    world.facts.round([A, B])
    assert len(world.walked) == 1, "a rest follows each walk"
    world.time += world.walk_takes * WALK_SHARE
    world.facts.round([A, B])
    assert sorted(world.walked) == [A, B]
    world.time += WALK_PAUSE / 2
    world.facts.round([A, B])
    assert len(world.walked) == 2
    world.time += WALK_PAUSE
    world.facts.round([A, B])
    assert len(world.walked) == 3


def test_what_ended_is_walked_once_also_when_it_was_never_read(world: World) -> None:
    world.facts.ended(B)
    assert world.walked == [B]
    assert world.told == [(B, {"writable_bytes": 5, "writable_paths": [["/data", 5]]})]
    world.facts.round([])
    world.time += WALK_PAUSE
    world.facts.round([])
    assert world.walked == [B]


def test_what_ended_while_the_disk_rests_is_walked_later_and_first(world: World) -> None:
    world.facts.round([A])
    world.facts.ended(B)
    assert world.walked == [A], "a rest follows each walk"
    world.time += world.walk_takes * WALK_SHARE + WALK_PAUSE
    world.facts.round([A])
    assert world.walked == [A, B]


def test_quick_walks_need_no_rest(world: World) -> None:
    world.walk_takes = WALK_QUICK / 2
    for number in range(20):
        world.facts.ended(f"{number:064x}")
    assert len(world.walked) == 20


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (None, 0, True),
        (100, 105, False),
        (100, 120, True),
        (0, 1, True),
        (1, 0, True),
        (0, 0, False),
        ([["/a", 1]], [["/a", 2]], True),
    ],
)
def test_what_matters(before: Any, now: Any, expected: bool) -> None:
    assert matters(before, now) is expected
