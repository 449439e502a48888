"""How large volumes are: measured when it matters, a part at a time."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import pytest
from django.test import Client

from runtime.engine import volumes as engine_volumes
from runtime.engine.volumes import Measuring, VolumeManager
from runtime.errors import NotFound
from runtime.store.bundles import BundleStore
from runtime.store.paths import Config
from runtime.store.trees import remove_tree
from runtime.store.walk import beneath
from tests.support.web import Site
from webui.volumes.models import Volume
from webui.volumes.services import volume_measured, volumes_mounted
from workers.watcher.volumes import BUDGET, PAUSE, SHARE, UNUSED_PAUSE, VolumeSizes

KIB = 1024


class World:
    """Volumes by name, each with the seconds that a walk takes; "a" is the one that containers mount."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.takes = {"a": 0.01}
        self.mounts: dict[str, set[str]] = {}  # container -> its volumes
        self.begun: list[str] = []
        self.told: list[str] = []
        self.sizes = VolumeSizes(
            self,
            mounted=self.mounted,
            write=lambda name, _: self.told.append(name),
            clock=lambda: self.time,
        )

    def names(self) -> list[str]:
        return list(self.takes)

    def measuring(self, name: str) -> FakeWalk:
        self.begun.append(name)
        if self.takes[name] < 0:
            raise NotFound("gone")
        return FakeWalk(self, self.takes[name])

    def mounted(self, active: Collection[str]) -> set[str]:
        return set().union(*(self.mounts[i] for i in active))

    def pass_by(self, seconds: float, *active: str) -> None:
        """Rounds, ten seconds apart."""
        for _ in range(int(seconds // 10)):
            self.time += 10
            self.sizes.round(active)


class FakeWalk:
    size = 5

    def __init__(self, world: World, takes: float) -> None:
        self._world = world
        self._left = takes

    def go_on(self, seconds: float) -> bool:
        spent = min(seconds, self._left)
        self._world.time += spent
        self._left -= spent
        return self._left <= 0


@pytest.fixture
def world() -> World:
    return World()


def test_a_volume_that_is_used_is_measured_now_and_each_few_minutes(world: World) -> None:
    world.mounts["c"] = {"a"}
    world.sizes.round(["c"])
    assert world.told == ["a"]
    world.pass_by(PAUSE - 20, "c")
    assert world.told == ["a"]
    world.pass_by(40, "c")
    assert world.told == ["a", "a"]


def test_one_that_nobody_uses_is_measured_each_hour(world: World) -> None:
    world.pass_by(UNUSED_PAUSE - 20)
    assert world.told == ["a"]
    world.pass_by(40)
    assert world.told == ["a", "a"]


def test_the_end_of_a_user_is_a_reason_to_measure_it(world: World) -> None:
    world.mounts["c"] = {"a"}
    world.sizes.round([])
    world.sizes.ended("c")
    world.pass_by(30)
    assert world.told == ["a", "a"]


def test_an_end_in_the_middle_of_a_walk_is_a_reason_for_another(world: World) -> None:
    world.mounts["c"] = {"a"}
    world.takes["a"] = 1.5 * BUDGET
    world.sizes.round([])
    world.sizes.ended("c")
    world.sizes.round([])
    assert world.told == ["a"]
    world.pass_by(1.5 * BUDGET * SHARE + 20)
    assert world.told == ["a", "a"]


def test_ends_have_nothing_measured_all_the_time(world: World) -> None:
    world.mounts["c"] = {"a"}
    world.takes["a"] = 10.0
    for _ in range(int(10 / BUDGET)):
        world.sizes.round([])
    for _ in range(20):
        world.sizes.ended("c")
        world.pass_by(10)
    assert world.begun == ["a"]


def test_a_round_takes_no_longer_than_its_budget_and_the_next_goes_on(world: World) -> None:
    world.takes = {"a": 2.5 * BUDGET, "b": 0.5 * BUDGET}
    for _ in range(3):
        assert len(world.told) < 2
        begun = world.time
        world.sizes.round([])
        assert world.time - begun == pytest.approx(BUDGET)
    assert sorted(world.told) == ["a", "b"]
    assert sorted(world.begun) == ["a", "b"], "each walk went on"


def test_what_takes_long_to_measure_is_measured_less_often(world: World) -> None:
    world.mounts["c"] = {"a"}
    world.takes["a"] = 10.0
    while not world.told:
        world.sizes.round(["c"])
    world.pass_by(10.0 * SHARE - 20, "c")
    assert world.begun == ["a"]
    world.pass_by(40, "c")
    assert world.begun == ["a", "a"]


def test_one_that_is_gone_or_broken_hinders_no_other(world: World) -> None:
    world.takes = {"a": -1, "b": 0.01}
    world.pass_by(100)
    assert world.told == ["b"]
    del world.takes["b"]
    world.pass_by(100)
    world.takes["b"] = 0.01
    world.pass_by(20)
    assert world.told == ["b", "b"], "a new one of the same name is measured anew"


# -- real files ---------------------------------------------------------------------------------


def write(path: Path, kib: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(kib * KIB))


def test_real_volumes_have_their_sizes_in_rest_and_on_their_page(
    site: Site, config: Config
) -> None:
    site.make("web", volumes=["data:/data"])
    manager = VolumeManager(config, BundleStore(config))
    manager.create("data")
    manager.create("unknown")
    write(manager.path("data") / "deep" / "file", 100)
    os.link(manager.path("data") / "deep" / "file", manager.path("data") / "same")
    api = site.api()
    assert api.get("volumes/data")["size"] is None
    sizes = VolumeSizes(
        manager,
        mounted=lambda ids: volumes_mounted(host_id=site.host.pk, containers=ids),
        write=lambda name, size: volume_measured(host_id=site.host.pk, name=name, size=size),
    )
    sizes.round([])
    row = api.get("volumes/data")
    assert 100 * KIB <= row["size"] < 120 * KIB
    assert row["measured_at"] is not None
    assert not Volume.objects.filter(name="unknown").exists()
    browser = Client()
    browser.force_login(site.users["viewer"])
    page = browser.get("/volumes/").content.decode()
    assert "KiB" in page
    assert "measured <relative-time" in page


def test_the_volumes_that_containers_mount(site: Site) -> None:
    web = site.make("web", volumes=["data:/data", "more:/more"])
    site.make("other", volumes=["third:/data"])
    assert volumes_mounted(host_id=site.host.pk, containers=[web.pk]) == {"data", "more"}
    assert volumes_mounted(host_id=site.host.pk, containers=[]) == set()


def test_a_measurement_may_be_done_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_volumes, "_LOOK_UP", 1)
    for number in range(5):
        write(tmp_path / "v" / f"{number}", 4)
    walk = Measuring(tmp_path / "v")
    parts = 1
    while not walk.go_on(0.0):
        parts += 1
    assert parts >= 5
    assert walk.size >= 20 * KIB


def test_a_walk_follows_no_link_that_takes_a_directory_s_place(tmp_path: Path) -> None:
    write(tmp_path / "host" / "inner" / "secret", 4)
    (tmp_path / "v" / "a" / "inner").mkdir(parents=True)
    walk = beneath(tmp_path / "v")
    directory, entry, _ = next(walk)
    assert (directory, entry.name) == ("", "a")
    (tmp_path / "v" / "a").rename(tmp_path / "aside")
    (tmp_path / "v" / "a").symlink_to(tmp_path / "host")
    assert list(walk) == []


def test_a_walk_passes_over_a_directory_that_was_moved_below_a_link(tmp_path: Path) -> None:
    write(tmp_path / "host" / "inner" / "secret", 4)
    (tmp_path / "v" / "a" / "inner").mkdir(parents=True)
    walk = beneath(tmp_path / "v")
    assert [next(walk)[1].name, next(walk)[1].name] == ["a", "inner"]
    (tmp_path / "v" / "a").rename(tmp_path / "aside")
    (tmp_path / "v" / "a").symlink_to(tmp_path / "host")
    assert list(walk) == []


def test_a_walk_goes_as_deep_as_directories_are(tmp_path: Path) -> None:
    top = tmp_path / "v"
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    assert sum(1 for _ in beneath(top)) == 1200
    remove_tree(top)  # pytest cannot
