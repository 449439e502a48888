"""Volumes: filled from an image's merged layers, whole or not at all, and never lost by accident."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
from pathlib import Path

import pytest

from runtime.engine import lifecycle
from runtime.engine.layers import MergedTree, copy_tree
from runtime.engine.volumes import VolumeManager
from runtime.errors import (
    BadState,
    KernelFailure,
    NotFound,
    SpecInvalid,
    StorageFull,
    VolumeInUse,
)
from runtime.kernel import syscalls
from runtime.model.spec import Mount
from runtime.store.bundles import BundleStore
from runtime.store.leftovers import doom, sweep
from runtime.store.paths import Config
from tests.support.engine import Instance
from tests.support.specs import container


@pytest.fixture
def volumes(config: Config) -> VolumeManager:
    return VolumeManager(config, BundleStore(config))


@pytest.fixture
def layers(tmp_path: Path) -> list[Path]:
    """Two layers: the upper hides, replaces and adds."""
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    for directory in ("var/lib/db/old", "var/lib/db/sub", "opaque", "etc"):
        (lower / directory).mkdir(parents=True)
    (lower / "var/lib/db/gone").write_text("gone")
    (lower / "var/lib/db/both").write_text("lower")
    (lower / "var/lib/db/sub/low").write_text("low")
    (lower / "var/lib/db/old/x").write_text("x")
    (lower / "opaque/hidden").write_text("hidden")
    (lower / "data").symlink_to("/var/lib/db")
    (upper / "var/lib/db/sub").mkdir(parents=True)
    (upper / "opaque").mkdir()
    os.setxattr(upper / "opaque", "trusted.overlay.opaque", b"y")
    (upper / "opaque/shown").write_text("shown")
    (upper / "var/lib/db/both").write_text("upper")
    (upper / "var/lib/db/sub/high").write_text("high")
    (upper / "var/lib/db/link").symlink_to("both")
    os.mknod(upper / "var/lib/db/gone", stat.S_IFCHR, 0)
    os.mknod(upper / "var/lib/db/old", stat.S_IFCHR, 0)
    os.chown(upper / "var/lib/db", 33, 34)
    os.chmod(upper / "var/lib/db", 0o2750)
    os.chown(upper / "var/lib/db/both", 5, 6)
    return [lower, upper]


def test_a_merged_tree_is_what_overlayfs_would_show(layers: list[Path]) -> None:
    tree = MergedTree(layers)
    assert tree.names("var/lib/db") == ["both", "link", "sub"]
    assert tree.names("var/lib/db/sub") == ["high", "low"]
    assert tree.names("opaque") == ["shown"]
    assert tree.find("opaque/hidden") is None
    assert tree.resolve("/data/sub/../both") == "var/lib/db/both"
    assert tree.resolve("/../../etc") == "etc"
    assert tree.resolve("/no/where") is None


def test_links_that_go_in_circles_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(SpecInvalid):
        MergedTree([tmp_path]).resolve("/a")


def test_a_copy_keeps_owners_modes_and_links(layers: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "copy"
    target.mkdir()
    copy_tree(MergedTree(layers), "var/lib/db", target)
    info = target.stat()
    assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (33, 34, 0o2750)
    assert (target / "both").read_text() == "upper"
    assert (target / "both").stat().st_uid == 5
    assert os.readlink(target / "link") == "both"
    assert sorted(os.listdir(target)) == ["both", "link", "sub"]


def test_only_an_empty_volume_is_filled(volumes: VolumeManager, layers: list[Path]) -> None:
    volumes.create("data")
    assert volumes.fill("data", layers, "/data")
    assert (volumes.path("data") / "both").read_text() == "upper"
    (volumes.path("data") / "both").write_text("mine")
    assert not volumes.fill("data", layers, "/data")
    assert (volumes.path("data") / "both").read_text() == "mine"
    volumes.create("other")
    assert not volumes.fill("other", layers, "/not/in/the/image")
    assert sorted(os.listdir(volumes._config.volume("data"))) == ["_data", "volume.json"]


def test_who_has_a_volume_mounted_keeps_it_when_it_is_filled_for_another(
    volumes: VolumeManager, layers: list[Path]
) -> None:
    """Also one that nobody knew of when the fill began."""
    data = volumes.create("data").path
    mounted = os.open(data, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert volumes.fill("data", layers, "/data")
        os.close(os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=mounted))
        assert sorted(os.listdir(mounted)) == ["both", "link", "new", "sub"]
        facts = os.fstat(mounted)
    finally:
        os.close(mounted)
    assert (facts.st_uid, facts.st_gid, facts.st_mode & 0o7777) == (33, 34, 0o2750)
    assert (data / "sub" / "high").read_text() == "high"
    assert sorted(os.listdir(volumes._config.volume("data"))) == ["_data", "volume.json"]


def _broken_off(volumes: VolumeManager, layers: list[Path], *, after: int) -> Path:
    """Content of a volume in use whose fill was killed after so many names."""
    data = volumes.create("data").path
    BundleStore(volumes._config).create(container(mounts=(Mount("volume", "/x", "data"),)))
    child = os.fork()
    if child == 0:
        moved = 0
        real = syscalls.rename_new

        def deadly(source: str, target: str) -> None:
            nonlocal moved
            if moved == after:
                os.kill(os.getpid(), signal.SIGKILL)
            real(source, target)
            moved += 1

        syscalls.rename_new = deadly
        volumes.fill("data", layers, "/data")
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert len(os.listdir(data)) == after
    return data


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_fill_that_was_killed_half_way_is_finished_for_who_mounts_the_volume_next(
    volumes: VolumeManager, layers: list[Path], config: Config, after: int
) -> None:
    data = _broken_off(volumes, layers, after=after)
    sweep(config)  # as the next worker does first
    volumes.settle("data")
    assert sorted(os.listdir(data)) == ["both", "link", "sub"]
    assert (data / "sub" / "high").read_text() == "high"
    facts = data.stat()
    assert (facts.st_uid, facts.st_gid, facts.st_mode & 0o7777) == (33, 34, 0o2750)
    assert sorted(os.listdir(config.volume("data"))) == ["_data", "volume.json"]


def test_what_a_container_has_done_to_a_volume_meanwhile_outlives_the_rest_of_its_fill(
    volumes: VolumeManager, layers: list[Path]
) -> None:
    data = _broken_off(volumes, layers, after=1)
    (first,) = os.listdir(data)
    (data / first).unlink() if first != "sub" else shutil.rmtree(data / first)
    others = sorted({"both", "link", "sub"} - {first})
    for name in others:
        (data / name).mkdir()  # empty: a plain rename of a directory would replace it
    data.chmod(0o700)
    assert volumes.fill("data", layers, "/data")
    assert sorted(os.listdir(data)) == others
    assert not any(os.listdir(data / name) for name in others)
    assert data.stat().st_mode & 0o7777 == 0o700


def test_a_fill_that_fails_half_way_takes_nothing_back_and_the_next_one_finishes_it(
    volumes: VolumeManager, layers: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = volumes.create("data").path
    BundleStore(volumes._config).create(container(mounts=(Mount("volume", "/x", "data"),)))
    real = syscalls.rename_new

    def fails_after_one(source: str, target: str) -> None:
        if os.listdir(data):
            raise KernelFailure("renameat2", errno.ENOSPC, target)
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(syscalls, "rename_new", fails_after_one)
        with pytest.raises(StorageFull):
            volumes.fill("data", layers, "/data")
    assert len(os.listdir(data)) == 1
    assert volumes.fill("data", layers, "/not/in/the/image")
    assert sorted(os.listdir(data)) == ["both", "link", "sub"]
    assert sorted(os.listdir(volumes._config.volume("data"))) == ["_data", "volume.json"]


def test_a_file_system_without_the_call_that_replaces_nothing_is_filled_as_well(
    volumes: VolumeManager, layers: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(source: str, target: str) -> None:
        raise KernelFailure("renameat2", errno.EINVAL, target)

    monkeypatch.setattr(syscalls, "rename_new", unknown)
    data = volumes.create("data").path
    BundleStore(volumes._config).create(container(mounts=(Mount("volume", "/x", "data"),)))
    assert volumes.fill("data", layers, "/data")
    assert sorted(os.listdir(data)) == ["both", "link", "sub"]


@pytest.mark.parametrize("by", ["start", "sweep", "copy"])
def test_a_container_that_has_the_volume_sees_the_whole_fill_or_none(
    monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    with Instance() as instance:
        engine = instance.engine
        user = instance.create(
            instance.shell(
                "ls -a /x; exec sleep 1000", mounts=(Mount("volume", "/x", "data", nocopy=True),)
            )
        )
        filler = instance.shell("true", mounts=(Mount("volume", "/etc", "data"),))
        data = engine.volumes.path("data")
        real = syscalls.rename_new

        def fails_after_one(source: str, target: str) -> None:
            if os.listdir(data):
                raise KernelFailure("renameat2", errno.EIO, target)
            real(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(syscalls, "rename_new", fails_after_one)
            with pytest.raises(KernelFailure):
                instance.create(filler)
        expected = MergedTree(engine.images.layer_dirs(filler.image)).names("etc")
        assert 1 == len(os.listdir(data)) < len(expected)
        if by == "start":
            engine.start(user.id)
        elif by == "sweep":
            engine.sweep()
        else:
            engine.files.stat(user.id, "/x")
        assert sorted(os.listdir(data)) == expected


def test_a_volume_in_use_stays(volumes: VolumeManager) -> None:
    made = volumes.create("data")
    assert volumes.create("data") == made
    (made.path / "file").write_bytes(b"x" * 10000)
    assert volumes.usage("data") >= 10000
    spec = container(mounts=(Mount("volume", "/x", "data"),))
    BundleStore(volumes._config).create(spec)
    with pytest.raises(VolumeInUse) as caught:
        volumes.remove("data")
    assert caught.value.extra["containers"] == [spec.short_id]
    BundleStore(volumes._config).remove(spec.id)
    volumes.remove("data")
    volumes.remove("data")
    assert volumes.list() == []
    with pytest.raises(NotFound):
        volumes.path("data")


@pytest.mark.parametrize("name", ["..", ".", "../x", "a/b", "", "-x", "a\0"])
def test_names_that_leave_the_directory_are_refused(volumes: VolumeManager, name: str) -> None:
    for action in (volumes.create, volumes.remove, volumes.path):
        with pytest.raises(SpecInvalid):
            action(name)


def test_a_removed_volume_leaves_no_lock_behind(volumes: VolumeManager, config: Config) -> None:
    volumes.create("brief")
    volumes.remove("brief")
    volumes.remove("never-made")
    assert os.listdir(config.locks) == []


def test_only_what_a_creation_made_is_taken_back(volumes: VolumeManager) -> None:
    volumes.create("before")
    for name in ("before", "new", "shared", "used"):
        volumes.create_for(name, "a" * 64)
    volumes.create_for("new", "a" * 64)
    volumes.create_for("shared", "b" * 64)
    BundleStore(volumes._config).create(container(mounts=(Mount("volume", "/x", "used"),)))
    for name in ("before", "new", "shared", "used"):
        volumes.take_back(name, "b" * 64)
        volumes.take_back(name, "a" * 64)
    assert [record.name for record in volumes.list()] == ["before", "shared", "used"]


def test_a_creation_that_is_given_up_leaves_nothing_of_its_own() -> None:
    with Instance() as instance:
        engine = instance.engine
        engine.volumes.create("old")
        mounts = (Mount("volume", "/old", "old"), Mount("volume", "/new", "new"))
        spec = instance.create(instance.shell("true", mounts=mounts))
        assert engine.volumes.exists("new")
        engine.take_back(spec)
        assert [record.name for record in engine.volumes.list()] == ["old"]
        with pytest.raises(NotFound):
            engine.observe(spec.id)
        engine.take_back(spec)

        spec = instance.run(instance.shell("exec sleep 1000", mounts=mounts))
        with pytest.raises(BadState):
            engine.take_back(spec)
        engine.remove(spec.id, force=True)
        assert engine.volumes.exists("new")


def test_a_creation_that_is_done_again_finds_its_volume_missing_and_makes_it() -> None:
    """Another one that failed had taken it back, and the worker died before it made it anew."""
    with Instance() as instance:
        engine = instance.engine
        spec = instance.create(instance.shell("true", mounts=(Mount("volume", "/etc", "data"),)))
        doom(engine.config, engine.config.volume("data"))
        engine.create(spec)
        assert os.listdir(engine.volumes.path("data"))


def test_a_creation_that_fails_leaves_nothing_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(config: Config, container_id: str) -> None:
        raise StorageFull("The disk is full.")

    monkeypatch.setattr(lifecycle, "prepare_snapshot", broken)
    with Instance() as instance:
        engine = instance.engine
        engine.volumes.create("old")
        mounts = (Mount("volume", "/old", "old"), Mount("volume", "/new", "new"))
        with pytest.raises(StorageFull):
            instance.create(instance.shell("true", mounts=mounts))
        assert [record.name for record in engine.volumes.list()] == ["old"]
