"""Waiting for CPU, memory or disks: told when it lasts and when it has passed, and never as a flood."""

from __future__ import annotations

from typing import Any

from runtime.model.stats import StatsSample
from workers.watcher.pressure import PAUSE, Pressure

ID = "a" * 64
STEP = 10.0  # seconds between two readings


class World:
    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.pressure = Pressure(lambda _, kind, data: self.told.append((kind, data)))
        self.time = 1000.0

    def run(self, seconds: float, **measured: float) -> None:
        """`memory_full=20.0` for so long."""
        values = {f"{name.replace('_', '.')}.avg10": value for name, value in measured.items()}
        for _ in range(int(seconds / STEP)):
            self.time += STEP
            self.pressure.look(ID, StatsSample(ID, self.time, pressure=values))

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.told]


def test_it_is_told_when_it_lasts_and_when_it_has_passed() -> None:
    world = World()
    world.run(20, memory_full=25.0, cpu_some=1.0, io_full=0.0)
    assert world.told == [], "it may be a moment"
    world.run(60, memory_full=25.0, cpu_some=1.0, io_full=0.0)
    assert world.kinds() == ["container.pressure"]
    data = world.told[0][1]
    assert (data["resource"], data["measure"], data["percent"]) == ("memory", "memory.full", 25.0)
    assert "25 %" in data["message"]
    assert "memory limit" in data["message"]
    world.run(30, memory_full=5.0)
    assert world.kinds() == ["container.pressure"], "on the edge it is not over"
    world.run(30, memory_full=0.0)
    assert world.kinds() == ["container.pressure", "container.pressure_passed"]
    assert world.told[1][1]["lasted"] == 110


def test_each_resource_is_told_apart_and_none_as_a_flood() -> None:
    world = World()
    world.run(30, cpu_some=90.0, io_full=50.0, memory_full=0.0)
    assert [data["resource"] for _, data in world.told] == ["cpu", "io"]
    for _ in range(3):
        world.run(30, cpu_some=0.0, io_full=50.0)
        world.run(30, cpu_some=90.0, io_full=50.0)
    assert world.kinds() == ["container.pressure"] * 2 + ["container.pressure_passed"]
    world.run(PAUSE, cpu_some=90.0, io_full=50.0)
    assert world.kinds()[3:] == ["container.pressure"]


def test_a_host_that_measures_nothing_says_nothing() -> None:
    world = World()
    world.run(100)
    assert world.told == []


def test_one_that_has_ended_is_forgotten() -> None:
    world = World()
    world.run(20, io_full=90.0)
    world.pressure.forget(frozenset())
    world.run(20, io_full=90.0)
    assert world.told == []
