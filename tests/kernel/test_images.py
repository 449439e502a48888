"""Archives of every form into the store, and hostile ones turned away with nothing left."""

from __future__ import annotations

import errno
import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.errors import ArchiveInvalid, DigestMismatch
from runtime.images import ImageStore
from runtime.images.limits import UnpackLimits
from runtime.images.unpack import unpack
from runtime.store.leftovers import sweep_doomed
from runtime.store.paths import Config
from tests.support.images import busybox_layer, docker_archive, layer, oci_archive


@pytest.fixture
def store(config: Config) -> ImageStore:
    return ImageStore(config)


def _left(config: Config) -> list[Path]:
    return [
        p for d in (config.tmp, config.layers, config.images) if d.exists() for p in d.iterdir()
    ]


def _info(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", **fields: int
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def test_docker_oci_and_plain_archives_hold_the_same(store: ImageStore, tmp_path: Path) -> None:
    layers = [busybox_layer(), layer({"top": "1\n"})]
    docker = store.import_archive(
        docker_archive(tmp_path / "d.tar", layers, tag="app:1", Cmd=["sh"])
    )
    oci = store.import_archive(oci_archive(tmp_path / "o.tar", layers, name="app:2", Cmd=["sh"]))
    assert docker.id == oci.id
    assert docker.references == ("docker.io/library/app:1",)
    assert oci.references == ("docker.io/library/app:2",)
    plain = tmp_path / "p.tar"
    plain.write_bytes(layers[0])
    rootfs = store.import_archive(plain, reference="plain")
    assert rootfs.layers[0].diff_id == docker.layers[0].diff_id


@pytest.mark.parametrize("pack", ["gz", "xz", "bz2", "zst"])
def test_packed_archives_are_unpacked(store: ImageStore, tmp_path: Path, pack: str) -> None:
    import bz2
    import gzip
    import lzma

    import zstandard

    packers: dict[str, Callable[[bytes], bytes]] = {
        "gz": gzip.compress,
        "xz": lzma.compress,
        "bz2": bz2.compress,
        "zst": zstandard.ZstdCompressor().compress,
    }
    path = tmp_path / "rootfs"
    path.write_bytes(packers[pack](layer({"etc/name": "value"})))
    record = store.import_archive(path)
    assert (store.layer_dirs(record.id)[0] / "etc/name").read_text() == "value"


def test_modes_owners_links_times_and_attributes_are_kept(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = _info("dir/file", mode=0o4751, uid=1234, gid=567, mtime=1000, size=3)
        info.pax_headers = {"SCHILY.xattr.user.note": "kept"}
        tar.addfile(info, io.BytesIO(b"abc"))
        tar.addfile(_info("dir/hard", tarfile.LNKTYPE, "dir/file"))
        tar.addfile(_info("dir/soft", tarfile.SYMTYPE, "/etc/passwd", uid=5))
        tar.addfile(_info("pipe", tarfile.FIFOTYPE, mode=0o600))
        tar.addfile(_info("null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666))
    buffer.seek(0)
    unpack(buffer, str(tmp_path))
    facts = (tmp_path / "dir/file").stat()
    assert stat.S_IMODE(facts.st_mode) == 0o4751
    assert (facts.st_uid, facts.st_gid, facts.st_mtime, facts.st_nlink) == (1234, 567, 1000, 2)
    assert os.getxattr(tmp_path / "dir/file", "user.note") == b"kept"
    assert os.readlink(tmp_path / "dir/soft") == "/etc/passwd"
    assert (tmp_path / "dir/soft").lstat().st_uid == 5
    assert stat.S_ISFIFO((tmp_path / "pipe").lstat().st_mode)
    assert (tmp_path / "null").lstat().st_rdev == os.makedev(1, 3)


def test_whiteouts_become_overlays_own(tmp_path: Path) -> None:
    unpack(io.BytesIO(layer({"d/.wh.gone": "", "o/.wh..wh..opq": "", "o/new": "1"})), str(tmp_path))
    gone = (tmp_path / "d/gone").lstat()
    assert stat.S_ISCHR(gone.st_mode)
    assert gone.st_rdev == 0
    assert os.getxattr(tmp_path / "o", "trusted.overlay.opaque") == b"y"
    assert not (tmp_path / "o/.wh..wh..opq").exists()


_HOSTILE = {
    "a name above the root": layer({"../escape": "x"}),
    "a hard link above the root": layer({}, a=_info("a", tarfile.LNKTYPE, "../../etc/passwd")),
    "a hard link to nothing": layer({}, a=_info("a", tarfile.LNKTYPE, "missing")),
    "a disk": layer({}, a=_info("sda", tarfile.BLKTYPE, devmajor=8, devminor=0)),
    "kernel memory": layer({}, a=_info("mem", tarfile.CHRTYPE, devmajor=1, devminor=1)),
    "cut off": layer({"file": "x" * 4096})[:1500],
    "no tar": b"this is not an archive" * 100,
    "files below a file": layer({"a": "file", "a/b": "x"}),
    "a whiteout of the parent": layer({"d/.wh...": "x"}),
}


@pytest.mark.parametrize("name", _HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(
    store: ImageStore, config: Config, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "hostile.tar"
    path.write_bytes(_HOSTILE[name])
    with pytest.raises(ArchiveInvalid) as caught:
        store.import_archive(path)
    assert caught.value.message.endswith(".") or caught.value.message.endswith("?")
    assert _left(config) == []


def test_a_link_out_of_the_root_stays_inside(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    root = tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    unpack(io.BytesIO(layer({"way/": b"", "way/out": f"-> {outside}"})), str(root))
    with pytest.raises(ArchiveInvalid):
        unpack(io.BytesIO(layer({"link": f"-> {outside}", "link/file": "x"})), str(root))
    assert list(outside.iterdir()) == []


def test_a_bomb_is_defused(tmp_path: Path) -> None:
    import gzip

    bomb = gzip.compress(layer({"zeros": bytes(8 << 20)}))
    with pytest.raises(ArchiveInvalid, match="bomb"):
        unpack(
            io.BytesIO(bomb), str(tmp_path), limits=UnpackLimits(max_ratio=100, ratio_from=1 << 20)
        )
    with pytest.raises(ArchiveInvalid, match="MiB"):
        unpack(io.BytesIO(bomb), str(tmp_path), limits=UnpackLimits(max_bytes=1 << 20))
    many = layer({f"f{i}": "" for i in range(20)})
    with pytest.raises(ArchiveInvalid, match="entries"):
        unpack(io.BytesIO(many), str(tmp_path), limits=UnpackLimits(max_entries=10))


def test_a_layer_that_lies_about_its_digest_is_refused(
    store: ImageStore, config: Config, tmp_path: Path
) -> None:
    path = docker_archive(tmp_path / "d.tar", [layer({"a": "1"})])
    data = path.read_bytes().replace(b"a\0\0\0\0", b"b\0\0\0\0", 1)
    path.write_bytes(data)
    with pytest.raises((DigestMismatch, ArchiveInvalid)):
        store.import_archive(path)
    assert _left(config) == []


def test_a_layer_whose_remains_resist_is_no_image_s_and_goes_later(
    store: ImageStore, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    wrong = "sha256:" + "0" * 64
    with monkeypatch.context() as broken:
        broken.setattr(os, "scandir", fail)
        with pytest.raises(DigestMismatch):
            store.layers.add(lambda: io.BytesIO(layer({"file": "1\n"})), diff_id=wrong)
    sweep_doomed(config)
    assert _left(config) == []


def test_an_image_without_its_layers_says_so(
    store: ImageStore, config: Config, tmp_path: Path
) -> None:
    path = tmp_path / "d.tar"
    path.write_bytes(layer({"manifest.json": '[{"Config": "c.json", "Layers": ["x/layer.tar"]}]'}))
    with pytest.raises(ArchiveInvalid):
        store.import_archive(path)
    assert _left(config) == []
