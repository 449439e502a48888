"""Being held back by the CPU limit: told when it begins and when it has passed, and never as a flood."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from runtime.model.stats import StatsSample
from tests.support.web import Site
from webui.core.payloads import event_row
from webui.operations.models import Event
from workers.watcher.throttling import PAUSE, Throttling, throttling_record

ID = "a" * 64
STEP = 10.0  # seconds between two readings
PERIODS = 100  # per step


class World:
    def __init__(self) -> None:
        self.told: list[tuple[str, float]] = []
        self.data: list[dict[str, Any]] = []
        self.throttling = Throttling(self.record)
        self.time, self.periods, self.held = 1000.0, 0, 0

    def record(self, container_id: str, kind: str, data: dict[str, Any]) -> None:
        assert container_id == ID
        self.told.append((kind.partition(".")[2], self.time))
        self.data.append(data)

    def run(self, seconds: float, share: float, periods: int = PERIODS) -> None:
        for _ in range(int(seconds / STEP)):
            self.time += STEP
            self.periods += periods
            self.held += int(periods * share)
            self.throttling.look(
                ID,
                StatsSample(
                    ID, self.time, cpu_limit=0.5, cpu_periods=self.periods,
                    cpu_throttled_periods=self.held, cpu_throttled_time=self.held * 10**8,
                ),
            )  # fmt: skip

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.told]


def test_it_is_told_when_half_of_a_window_was_held_back_and_when_it_has_passed() -> None:
    world = World()
    world.run(30, 0.9)
    assert world.told == [], "less than a window has been seen"
    world.run(60, 0.9)
    assert world.kinds() == ["throttled"]
    assert world.data[0]["share"] == 0.9
    assert (world.data[0]["periods"], world.data[0]["throttled_periods"]) == (300, 270)
    assert (world.data[0]["throttled_seconds"], world.data[0]["cpus"]) == (27.0, 0.5)
    assert "90%" in world.data[0]["message"]
    assert "0.5 cores" in world.data[0]["message"]
    world.run(60, 0.0)
    assert world.kinds() == ["throttled", "unthrottled"]
    assert world.data[1]["lasted"] > 0


def test_half_or_less_is_not_heavy_and_a_moment_of_work_says_nothing() -> None:
    world = World()
    world.run(100, 0.5)
    world.run(100, 0.2)
    world.run(100, 1.0, periods=2)
    assert world.told == []


def test_a_container_on_the_edge_does_not_flood() -> None:
    world = World()
    for _ in range(30):
        world.run(40, 1.0)
        world.run(40, 0.0)
    begun = [time for kind, time in world.told if kind == "throttled"]
    assert all(later - earlier >= PAUSE for earlier, later in pairwise(begun))
    assert len(begun) >= 4
    assert abs(world.kinds().count("unthrottled") - len(begun)) <= 1


def test_one_that_wavers_between_the_two_bounds_is_one_event() -> None:
    world = World()
    world.run(60, 0.9)
    world.run(600, 0.4)
    world.run(600, 0.9)
    assert world.kinds() == ["throttled"]


def test_counters_set_back_by_a_restart_begin_a_new_window() -> None:
    world = World()
    world.run(30, 0.9)
    world.periods = world.held = 0
    world.run(30, 0.9)
    assert world.told == []


def test_what_ended_is_forgotten_without_an_event() -> None:
    world = World()
    world.run(60, 0.9)
    world.throttling.forget(frozenset())
    world.run(60, 0.9)
    assert world.kinds() == ["throttled", "throttled"]


def test_the_event_is_on_its_container(site: Site) -> None:
    container = site.make("web")
    throttling_record(container.pk, "container.throttled", {"share": 0.9, "message": "held"})
    throttling_record("f" * 64, "container.throttled", {})
    row = event_row(Event.objects.get(type="container.throttled"))
    assert (row["target_name"], row["data"]["share"]) == ("web", 0.9)
