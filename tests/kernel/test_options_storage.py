"""Options of mounts, as mountinfo and the container's own file system show them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import EngineError
from runtime.kernel.constants import MNT_DETACH
from runtime.kernel.syscalls import mount, umount
from runtime.model.spec import Mount
from tests.support.engine import Instance
from tests.support.options import asked, started

MIB = 2**20


@pytest.fixture
def instance() -> Iterator[Instance]:
    with Instance() as made:
        yield made


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host with a file system mounted below it."""
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    (source / "file").write_text("host")
    mount("tmpfs", str(source / "below"), "tmpfs", 0, "size=1m")
    (source / "below/deep").write_text("deep")
    yield source
    umount(str(source / "below"), MNT_DETACH)


def bind(source: Path, **more: Any) -> dict[str, Any]:
    return {"type": "bind", "source": str(source), "target": "/mnt", **more}


def test_a_bind_takes_submounts_along(instance: Instance, tree: Path) -> None:
    seen = started(instance, mounts=[bind(tree)])
    assert seen.file("/mnt/below/deep").read_text() == "deep"
    seen.run("sh", "-c", "echo x > /mnt/made; echo x > /mnt/below/made")
    assert (tree / "made").exists()


def test_read_only_reaches_below(instance: Instance, tree: Path) -> None:
    seen = started(instance, mounts=[bind(tree, read_only=True)])
    assert "ro" in seen.mount("/mnt").options
    assert "ro" in seen.mount("/mnt/below").options
    assert "Read-only" in seen.fails("touch", "/mnt/below/x")


def test_unless_submounts_are_to_stay_writable_or_away(instance: Instance, tree: Path) -> None:
    seen = started(instance, mounts=[bind(tree, read_only=True, recursive="writable")])
    assert "ro" in seen.mount("/mnt").options
    assert "rw" in seen.mount("/mnt/below").options
    seen = started(instance, mounts=[bind(tree, recursive="disabled")])
    assert seen.file("/mnt/below").is_dir()
    assert not seen.file("/mnt/below/deep").exists()


@pytest.mark.parametrize(
    ("propagation", "tag", "arrives"),
    [("rprivate", "", False), ("rslave", "master", True), ("rshared", "shared", True)],
)
def test_propagation(
    instance: Instance, tree: Path, propagation: str, tag: str, arrives: bool
) -> None:
    mount(str(tree), str(tree), "", 4096)  # MS_BIND: a mount of its own, to be shared
    mount("none", str(tree), "", 1 << 20)  # MS_SHARED
    try:
        (tree / "later").mkdir()
        seen = started(instance, mounts=[bind(tree, propagation=propagation)])
        tags = " ".join(seen.mount("/mnt").tags)
        assert (tag in tags) if tag else tags == ""
        mount("tmpfs", str(tree / "later"), "tmpfs", 0, "size=64k")
        (tree / "later/new").write_text("x")
        assert seen.file("/mnt/later/new").exists() is arrives
        umount(str(tree / "later"), MNT_DETACH)
    finally:
        umount(str(tree), MNT_DETACH)


def test_what_is_mounted_inside_reaches_the_host_when_shared(
    instance: Instance, tree: Path
) -> None:
    mount(str(tree), str(tree), "", 4096)  # MS_BIND
    mount("none", str(tree), "", 1 << 20)  # MS_SHARED
    try:
        (tree / "made").mkdir()
        seen = started(instance, privileged=True, mounts=[bind(tree, propagation="rshared")])
        seen.run("mount", "-t", "tmpfs", "none", "/mnt/made")
        seen.run("touch", "/mnt/made/inside")
        assert (tree / "made/inside").exists()
        umount(str(tree / "made"), MNT_DETACH)
    finally:
        umount(str(tree), MNT_DETACH)


def test_a_file_of_the_host(instance: Instance, tree: Path) -> None:
    seen = started(instance, mounts=[f"type=bind,src={tree}/file,dst=/etc/given,readonly"])
    assert seen.run("cat", "/etc/given") == "host"
    assert "ro" in seen.mount("/etc/given").options


def test_a_part_of_a_volume(instance: Instance) -> None:
    record = instance.engine.volumes.create("data")
    (record.path / "inner").mkdir()
    (record.path / "inner/file").write_text("x")
    (record.path / "secret").write_text("x")
    (record.path / "out").symlink_to("/etc")
    seen = started(instance, mounts=[{"source": "data", "target": "/d", "subpath": "inner"}])
    assert seen.run("ls", "/d") == "file"
    assert seen.mount("/d").root.endswith("/data/_data/inner")
    # A link in the volume leads nowhere but within it.
    spec = instance.create(
        asked(instance, mounts=[{"source": "data", "target": "/d", "subpath": "out"}])
    )
    with pytest.raises(EngineError):
        instance.engine.start(spec.id)


def test_a_volume_is_filled_from_the_image_unless_told_otherwise(instance: Instance) -> None:
    filled = started(instance, mounts=[{"source": "a", "target": "/etc"}])
    assert "passwd" in filled.run("ls", "/etc")
    empty = started(instance, mounts=[{"source": "b", "target": "/var", "nocopy": True}])
    assert empty.run("ls", "/var") == ""


def test_a_volume_without_a_name_goes_with_its_container(instance: Instance) -> None:
    seen = started(instance, volumes=["/scratch"])
    [name] = [m.source for m in seen.spec.mounts]
    assert len(name) == 64
    assert seen.mount("/scratch").root.endswith(f"/{name}/_data")
    instance.engine.remove(seen.spec.id, force=True, volumes=True)
    assert not instance.engine.volumes.exists(name)


def test_the_mounts_of_another_container(instance: Instance, tree: Path) -> None:
    first = started(instance, volumes=["/scratch", f"{tree}:/host"])
    first.run("sh", "-c", "echo shared > /scratch/x")
    second = started(instance, volumes_from=["first"], inherited=first.spec.mounts)
    assert second.run("cat", "/scratch/x", "/host/file") == "shared\nhost"
    # The first goes; what the second still has stays.
    instance.engine.remove(first.spec.id, force=True, volumes=True)
    assert second.run("cat", "/scratch/x") == "shared"
    instance.engine.remove(second.spec.id, force=True, volumes=True)
    assert instance.engine.volumes.list() == []


def test_a_file_system_in_memory_has_its_options(instance: Instance) -> None:
    seen = started(
        instance,
        tmpfs=["/plain", "/run:size=2m,mode=750,uid=33,gid=34,exec,nr_inodes=100", "/ro:ro"],
    )
    plain = seen.mount("/plain")
    assert plain.fstype == "tmpfs"
    assert {"nosuid", "nodev", "noexec", "rw"} <= plain.options
    run = seen.mount("/run")
    assert "noexec" not in run.options
    assert {"size=2048k", "mode=750", "uid=33", "gid=34", "nr_inodes=100"} <= run.superblock
    assert "ro" in seen.mount("/ro").options
    seen.run("sh", "-c", "printf '#!/bin/sh\\necho ran' > /run/x && chmod +x /run/x && /run/x")
    assert "No space" in seen.fails("dd", "if=/dev/zero", "of=/run/y", "bs=1M", "count=3")


def test_a_read_only_root(instance: Instance) -> None:
    seen = started(instance, read_only_rootfs=True, tmpfs=["/tmp"], volumes=["data:/data"])
    assert "ro" in seen.mount("/").options
    assert "Read-only" in seen.fails("touch", "/x")
    seen.run("touch", "/tmp/x", "/data/x")


@pytest.mark.parametrize(
    "mount_",
    [
        Mount("bind", "/x", "/no/such/path"),
        Mount("bind", "/x", "/etc", recursive="readonly"),
        Mount("volume", "/x", "a", propagation="rshared"),
        Mount("tmpfs", "/x", tmpfs_options=("lowerdir=/",)),
        Mount("volume", "/x", "a", subpath="../b"),
    ],
    ids=lambda m: m.type,
)
def test_impossible_mounts_are_refused_and_nothing_is_made(
    instance: Instance, mount_: Mount
) -> None:
    with pytest.raises(EngineError) as caught:
        instance.engine.create(instance.spec(mounts=(mount_,)))
    assert str(caught.value.extra["field"]).startswith("mounts[0].")
    instance.check_nothing_left()
