"""Image archives: `docker save`, OCI layouts, and plain root file systems, told apart by what is in them.

An archive is unpacked to a private directory first: its index may come after its layers. Sources:
OCI image spec (image-layout.md), Docker image spec v1.2.
"""

from __future__ import annotations

import hashlib
import json
import platform
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.errors import ArchiveInvalid, DigestMismatch
from runtime.images.streams import BROKEN, Peekable, decompressed
from runtime.images.unpack import clean, unpack

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MAX_JSON = 16 << 20  # bytes of one document
_PEEK = 64  # entries looked at to tell what an archive is


def architecture() -> str:
    """This host's, in the words of the OCI image spec."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


@dataclass(frozen=True, slots=True)
class Opened:
    """An image found in an archive: its config as written, and where each layer's bytes are."""

    config: bytes
    layers: Sequence[Path]  # bottom first, packed or not
    references: tuple[str, ...] = ()
    manifest_digest: str = ""


def is_image_archive(path: Path) -> bool:
    """True for `docker save` and OCI archives, False for anything else that is a tar.

    Raises ArchiveInvalid when it is no tar at all.
    """
    with path.open("rb") as file:
        plain = decompressed(Peekable(file))
        try:
            with tarfile.open(fileobj=plain, mode="r|") as archive:
                for number, member in enumerate(archive):
                    name = member.name.removeprefix("./").rstrip("/")
                    if name in ("manifest.json", "index.json", "oci-layout"):
                        return True
                    # `docker save` puts blobs or <id>/layer.tar first; a root file system has neither.
                    if number >= _PEEK and not name.startswith("blobs/"):
                        return False
        except (tarfile.TarError, *BROKEN) as error:
            raise ArchiveInvalid(
                f"The file is not a tar archive, or it is damaged: {error}.",
                hint="Give a root file system tar, or the output of docker save; gzip, zstd, xz are fine.",
            ) from error
    return False


def extract(path: Path, target: Path, cancelled: Callable[[], bool]) -> None:
    """The archive's regular files to `target`, by cleaned names. Raises ArchiveInvalid, OSError."""
    with path.open("rb") as source:
        unpack(source, str(target), cancelled=cancelled)


def open_image(directory: Path) -> Opened:
    """Find the image in an extracted archive. Raises ArchiveInvalid, DigestMismatch."""
    if (directory / "manifest.json").is_file():
        return _docker(directory)
    return _oci(directory)


def _docker(directory: Path) -> Opened:
    entries = _json(directory / "manifest.json", "manifest.json")
    if not isinstance(entries, list) or not entries:
        raise ArchiveInvalid("The archive's manifest.json names no image.")
    if len(entries) > 1:
        raise ArchiveInvalid(
            f"The archive holds {len(entries)} images.",
            hint="Save them one by one: docker save IMAGE > image.tar",
        )
    try:
        entry = entries[0]
        config = _inside(directory, entry["Config"])
        layers = [_inside(directory, name) for name in entry["Layers"]]
        tags = tuple(entry.get("RepoTags") or ())
    except (KeyError, TypeError) as error:
        raise ArchiveInvalid(f"The archive's manifest.json lacks {error}.") from error
    return Opened(_read(config), layers, tags)


def _oci(directory: Path) -> Opened:
    index = _json(directory / "index.json", "index.json")
    descriptor = _choose(directory, index)
    manifest = _json(_blob(directory, descriptor), "the manifest")
    try:
        config = _read(_blob(directory, manifest["config"]))
        layers = [_blob(directory, layer) for layer in manifest["layers"]]
    except (KeyError, TypeError) as error:
        raise ArchiveInvalid(f"The archive's manifest lacks {error}.") from error
    notes = descriptor.get("annotations") or {}
    name = notes.get("io.containerd.image.name") or notes.get("org.opencontainers.image.ref.name")
    references = (name,) if name and ":" in name else ()
    return Opened(config, layers, references, descriptor["digest"])


def _choose(directory: Path, index: Any) -> dict[str, Any]:
    """The manifest for this host's architecture; indexes may nest once."""
    wanted = architecture()
    try:
        entries: list[dict[str, Any]] = index["manifests"]
        for entry in entries:
            if entry.get("mediaType") in _INDEXES:
                nested = _json(_blob(directory, entry), "the index")
                chosen = _choose(directory, nested)
                return {**chosen, "annotations": entry.get("annotations")}
        for entry in entries:
            where = entry.get("platform") or {}
            if where.get("architecture", wanted) == wanted and where.get("os", "linux") == "linux":
                return entry
    except (KeyError, TypeError, AttributeError) as error:
        raise ArchiveInvalid(f"The archive's index.json cannot be read: {error!r}.") from error
    raise ArchiveInvalid(f"The archive holds no image for linux/{wanted}, which this host is.")


def _blob(directory: Path, descriptor: dict[str, Any]) -> Path:
    """The file of a descriptor, checked against its digest."""
    digest = str(descriptor["digest"])
    kind, _, digits = digest.partition(":")
    if kind != "sha256" or len(digits) != 64:
        raise ArchiveInvalid(f"{digest} is no sha256 digest.")
    path = _inside(directory, f"blobs/sha256/{digits}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != digits:
        raise DigestMismatch(
            f"Blob {digits[:12]} of the archive has other content than its name says.",
            hint="Make or download the archive again.",
        )
    return path


def _inside(directory: Path, name: str) -> Path:
    """A regular file of the archive; no link is followed, for it could lead anywhere."""
    path = directory / clean(name)
    if path.is_symlink():
        # Old `docker save` links a layer that an earlier image of the archive had.
        path = directory / clean(str(Path(clean(name)).parent / path.readlink()))
    for parent in (path, *path.parents):
        if parent == directory:
            break
        if parent.is_symlink():
            raise ArchiveInvalid(f"{name} lies behind a link.", path=name)
    if not path.is_file():
        raise ArchiveInvalid(f"The archive names {name}, but does not hold it.", path=name)
    return path


def _read(path: Path) -> bytes:
    if path.stat().st_size > _MAX_JSON:
        raise ArchiveInvalid(f"{path.name} is too large for what it should be.")
    return path.read_bytes()


def _json(path: Path, name: str) -> Any:
    if path.is_symlink() or not path.is_file():
        raise ArchiveInvalid(f"The archive has no {name}.")
    try:
        return json.loads(_read(path))
    except ValueError as error:
        raise ArchiveInvalid(f"The archive's {name} is not JSON: {error}.") from error
