"""Images saved and loaded again: the archive of `docker save`, and an OCI layout at once."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.engine.saving import Saving
from runtime.errors import EngineError, NotFound
from runtime.images import ImageStore
from runtime.images.layers import chains_of
from runtime.model.image import ImageRecord
from runtime.store.paths import Config
from tests.support.engine import Instance
from tests.support.images import busybox_layer, docker_archive, layer

NAMES = ["docker.io/library/app:1", "registry.example/team/app:2"]


@pytest.fixture
def store(config: Config) -> ImageStore:
    return ImageStore(config)


def saved(store: ImageStore, image: ImageRecord, path: Path, names: list[str] = NAMES) -> Path:
    with path.open("wb") as file:
        file.writelines(Saving(store).save(image.id, names))
    return path


def content(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar if m.isreg()}  # type: ignore[union-attr]


@pytest.fixture
def image(store: ImageStore, tmp_path: Path) -> ImageRecord:
    """Layers that hide, replace and link; packed by others than us."""
    layers = [
        busybox_layer(),
        layer({"d/": "", "d/kept": "1\n", "d/gone": "2\n", "o/": "", "o/old": "3\n"}),
        layer({"d/.wh.gone": "", "o/.wh..wh..opq": "", "o/new": "4\n", "link": "-> d/kept"}),
    ]
    archive = docker_archive(tmp_path / "in.tar", layers, tag="app:1", Cmd=["sh"], Env=["A=b"])
    return store.import_archive(archive)


def test_an_archive_is_what_docker_and_oci_tools_read(
    store: ImageStore, image: ImageRecord, tmp_path: Path
) -> None:
    files = content(saved(store, image, tmp_path / "out.tar"))
    for name, data in files.items():
        if name.startswith("blobs/"):
            assert name == f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"
    [entry] = json.loads(files["manifest.json"])
    assert entry["RepoTags"] == ["app:1", "registry.example/team/app:2"]
    config = json.loads(files[entry["Config"]])
    digests = [f"sha256:{name.rpartition('/')[2]}" for name in entry["Layers"]]
    assert config["rootfs"] == {"type": "layers", "diff_ids": digests}
    assert (config["config"]["Cmd"], config["config"]["Env"]) == (["sh"], ["A=b"])
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    manifests = json.loads(files["index.json"])["manifests"]
    notes = [m["annotations"] for m in manifests]
    assert [note["io.containerd.image.name"] for note in notes] == NAMES
    assert [note["org.opencontainers.image.ref.name"] for note in notes] == ["1", "2"]
    manifest = json.loads(files[f"blobs/sha256/{manifests[0]['digest'][7:]}"])
    assert [part["digest"] for part in manifest["layers"]] == digests
    for part in (manifest["config"], *manifest["layers"]):
        assert len(files[f"blobs/sha256/{part['digest'][7:]}"]) == part["size"]


def tree(directory: Path) -> dict[str, Any]:
    """What of a layer an image keeps, by path."""
    found: dict[str, Any] = {}
    for path in sorted(directory.rglob("*")):
        facts = path.lstat()
        text = os.readlink(path) if path.is_symlink() else ""
        data = path.read_bytes() if stat.S_ISREG(facts.st_mode) else b""
        opaque = path.is_dir() and "trusted.overlay.opaque" in os.listxattr(path)
        found[str(path.relative_to(directory))] = (
            facts.st_mode, facts.st_uid, facts.st_gid, facts.st_mtime_ns if data else 0,
            facts.st_rdev, text, data, opaque,
        )  # fmt: skip
    return found


@pytest.mark.parametrize("form", ["docker", "oci"])
def test_what_is_saved_can_be_imported_and_is_the_same(
    store: ImageStore, image: ImageRecord, tmp_path: Path, form: str
) -> None:
    path = saved(store, image, tmp_path / "out.tar", NAMES[:1])
    if form == "oci":
        path = _without(path, "manifest.json")
    other = ImageStore(Config(tmp_path / "other", tmp_path / "run", "other"))
    again = other.import_archive(path)
    assert again.references == (NAMES[0],)
    assert again.config == image.config
    pairs = zip(store.layer_dirs(image.id), other.layer_dirs(again.id), strict=True)
    for one, same in pairs:
        assert tree(one) == tree(same)
    # Packed by us, it stays what it is: the same bytes, and so the same digest.
    once_more = saved(other, again, tmp_path / "again.tar", NAMES[:1])
    assert other.import_archive(once_more).id == again.id
    if form == "docker":
        assert once_more.read_bytes() == path.read_bytes()
    shutil.rmtree(tmp_path / "other")


def _without(path: Path, name: str) -> Path:
    target = path.with_suffix(".oci")
    with tarfile.open(path) as source, tarfile.open(target, "w") as tar:
        for member in source:
            if member.name != name:
                tar.addfile(member, source.extractfile(member) if member.isreg() else None)
    return target


def test_one_by_digest_and_one_without_a_name_are_saved_without(
    store: ImageStore, image: ImageRecord, tmp_path: Path
) -> None:
    for names in ([], [f"docker.io/library/app@sha256:{'a' * 64}"]):
        files = content(saved(store, image, tmp_path / "out.tar", names))
        assert json.loads(files["manifest.json"])[0]["RepoTags"] is None
        [manifest] = json.loads(files["index.json"])["manifests"]
        assert "annotations" not in manifest


def test_an_image_that_is_not_there_or_not_whole_makes_no_archive(
    store: ImageStore, image: ImageRecord
) -> None:
    with pytest.raises(NotFound):
        next(Saving(store).save("sha256:" + "e" * 64, []))
    shutil.rmtree(store.layers.path(chains_of(image)[1]))
    with pytest.raises(NotFound):
        next(Saving(store).save(image.id, []))


def test_one_that_changes_meanwhile_is_not_finished(store: ImageStore, image: ImageRecord) -> None:
    blocks = Saving(store).save(image.id, [])
    sent = 0
    while sent < 100_000:
        sent += len(next(blocks))
    # Between its measuring and its sending.
    (store.layer_dirs(image.id)[0] / "etc/passwd").write_text("other\n")
    with pytest.raises(EngineError) as caught:
        list(blocks)
    assert "changed" in caught.value.message


def test_one_that_is_removed_meanwhile_is_sent_to_its_end(
    store: ImageStore, image: ImageRecord, config: Config
) -> None:
    blocks = Saving(store).save(image.id, NAMES)
    first = next(blocks)
    store.remove(image.id)
    assert len(first + b"".join(blocks)) > 1_000_000
    store.collect(grace=0)
    assert not any(config.layers.iterdir())


@pytest.fixture
def instance() -> Iterator[Instance]:
    with Instance() as made:
        yield made


def test_the_loaded_one_runs(instance: Instance, tmp_path: Path) -> None:
    path = saved(instance.engine.images, instance.image, tmp_path / "starter.tar")
    again = instance.engine.images.import_archive(path)
    spec = instance.run(instance.spec("sh", "-c", "id -u; echo done", image=again.id))
    assert "0" in instance.wait_for_output(spec, "done")


def test_other_tools_list_it(store: ImageStore, image: ImageRecord, tmp_path: Path) -> None:
    path = saved(store, image, tmp_path / "out.tar")
    listed = subprocess.run(["tar", "-tf", path], capture_output=True, text=True, check=True)
    assert {"index.json", "manifest.json", "oci-layout"} <= set(listed.stdout.split())
