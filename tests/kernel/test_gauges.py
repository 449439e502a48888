"""Readings of containers on real groups and links: what stays open, and for how long."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from runtime.cgroups.manager import CgroupManager
from runtime.engine import gauges
from runtime.engine.gauges import Gauges
from runtime.errors import NotFound
from runtime.model.spec import Limits
from runtime.network import traffic
from runtime.store.paths import Config

IDS = [f"{number:02x}" * 32 for number in range(8)]


class World:
    """Gauges of containers that have groups and the host's loopback as their link."""

    def __init__(self, config: Config) -> None:
        self.groups = CgroupManager(config)
        self.made = Gauges(bundles=cast(Any, self), cgroups=self.groups, wiring=cast(Any, self))

    def start(self, *ids: str) -> None:
        for container_id in ids:
            self.groups.create(container_id, Limits(pids=20))
            # A group whose processor time is 0 counts as gone when its directory is.
            pid = os.fork()
            if not pid:
                self.groups.open(container_id).enter()
                os._exit(0)
            os.waitpid(pid, 0)

    # of the bundles and the wiring
    def written(self, _: str) -> int:
        return 1

    def spec(self, container_id: str) -> str:
        return container_id

    def links(self, _: str) -> tuple[str, ...]:
        return ("lo",)


@pytest.fixture
def world(config: Config) -> Iterator[World]:
    made = World(config)
    yield made
    made.made.close()
    for container_id in IDS:
        made.groups.open(container_id).remove()
    made.groups.remove_root()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_files_stay_open_between_readings_and_go_with_the_container(world: World) -> None:
    world.start(IDS[0])
    before = open_files()
    assert world.made.read(IDS[0]).pids_limit == 20
    kept = open_files()
    assert before < kept <= before + 14
    world.made.read(IDS[0])
    assert open_files() == kept
    world.groups.open(IDS[0]).remove()
    with pytest.raises(NotFound):
        world.made.read(IDS[0])
    assert open_files() == before


def test_a_group_made_anew_is_read_anew(world: World) -> None:
    world.start(IDS[0])
    world.made.read(IDS[0])
    world.groups.open(IDS[0]).remove()
    world.groups.create(IDS[0], Limits(pids=7))
    assert world.made.read(IDS[0]).pids_limit == 7


def test_all_that_run_are_read_and_the_others_left_out(world: World) -> None:
    world.start(*IDS[:6])
    found = world.made.read_all(IDS)
    assert [sample.id for sample in found] == IDS[:6]
    assert all(sample.pids_limit == 20 for sample in found)


def test_what_nobody_reads_any_more_is_closed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.start(*IDS[:2])
    world.made.read(IDS[1])
    one = open_files()
    world.made.read(IDS[0])
    assert open_files() > one
    monkeypatch.setattr(gauges, "_UNUSED", 0.0)
    world.made.read(IDS[1])
    assert open_files() == one


def test_above_the_most_files_are_read_without_keeping_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.start(*IDS[:2])
    monkeypatch.setattr(gauges, "_MOST", 1)
    few = Gauges(bundles=cast(Any, world), cgroups=world.groups, wiring=cast(Any, world))
    few.read(IDS[0])
    before = open_files()
    assert few.read(IDS[1]).pids_limit == 20
    assert open_files() == before
    few.close()


def test_two_threads_may_read_while_groups_come_and_go(world: World) -> None:
    world.start(*IDS[1:6])
    before = open_files()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            world.made.read_all(IDS)

    with ThreadPoolExecutor(2) as threads:
        readers = [threads.submit(read) for _ in range(2)]
        for _ in range(20):
            world.groups.create(IDS[0], Limits(pids=20))
            world.groups.open(IDS[0]).remove()
        done.set()
        for reader in readers:
            reader.result()
    world.made.close()
    assert open_files() == before


def test_all_links_at_once_tell_what_each_tells() -> None:
    links = os.listdir("/sys/class/net")
    before = {link: traffic.of(link) for link in links}
    table = traffic.Table()
    told = {link: table.of(link) for link in links}
    after = {link: traffic.of(link) for link in links}
    for link in links:
        for low, value, high in zip(before[link], told[link], after[link], strict=True):
            assert low <= value <= high, link
    assert any(any(counts) for counts in told.values())


def test_a_link_that_the_table_passed_over_is_read_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "_table", lambda: b"")
    before = traffic.of("lo")
    assert before <= traffic.Table().of("lo")
    assert traffic.Table().of("slwnothere") == traffic.NOTHING
