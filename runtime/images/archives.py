"""Image archives: `docker save`, OCI layouts, and plain root file systems, told apart by what is in them.

An archive is unpacked to a private directory first: its index may come after its layers. Sources:
OCI image spec (image-layout.md), Docker image spec v1.2.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from runtime.errors import ArchiveInvalid, DigestMismatch
from runtime.images import tar
from runtime.images.limits import UnpackLimits
from runtime.images.manifest import (
    INDEXES,
    MAX_DOCUMENT,
    Descriptor,
    choose,
    is_index,
    parse_descriptor,
    parse_manifest,
    parse_object,
)
from runtime.images.streams import BLOCK, Plain
from runtime.images.unpack import clean, unpack

_MAX_NESTING = 4  # indexes in indexes
# What an image archive holds beside its index, however many layers there are before it.
_OF_IMAGES = re.compile(
    r"|blobs(/.*)?|(sha256:)?[0-9a-f]{12,64}(/.*|\.json|\.tar(\.\w+)?)?|repositories"
)
_OTHERS = 64  # entries of another kind, after which it is a root file system
_SIGNS = ("manifest.json", "index.json", "oci-layout")


@dataclass(frozen=True, slots=True)
class Opened:
    """An image found in an archive: its config as written, and where each layer's bytes are."""

    config: bytes
    layers: Sequence[Path]  # bottom first, packed or not
    references: tuple[str, ...] = ()
    manifest_digest: str = ""


def is_image_archive(path: Path, cancelled: Callable[[], bool] = lambda: False) -> bool:
    """True for `docker save` and OCI archives, False for anything else that is a tar.

    Raises ArchiveInvalid when it is no tar at all, Cancelled.
    """
    others = 0
    with path.open("rb") as file:
        plain = Plain(file, UnpackLimits.from_env(), cancelled=cancelled)
        stream = io.BufferedReader(plain, BLOCK)
        reader = tar.TarReader(stream.read)
        for entry in reader:
            name = entry.name.removeprefix("./").strip("/")
            if name in _SIGNS and entry.kind == tar.FILE and entry.size <= MAX_DOCUMENT:
                data = b"".join(chunk for _, chunk in reader.content())
                if _is_sign(name, data):
                    return True
            if not _OF_IMAGES.fullmatch(name):
                others += 1
            if others > _OTHERS:
                return False
    return False


def _is_sign(name: str, data: bytes) -> bool:
    """Whether the file means what its name says: a root file system may have a manifest.json, too."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return False
    if name == "manifest.json":
        return isinstance(document, list) and all(
            isinstance(entry, dict) and "Layers" in entry for entry in document
        )
    sign = "manifests" if name == "index.json" else "imageLayoutVersion"
    return isinstance(document, dict) and sign in document


def extract(path: Path, target: Path, cancelled: Callable[[], bool]) -> None:
    """The archive's content to `target`, by cleaned names. Raises ArchiveInvalid, Cancelled, OSError."""
    with path.open("rb") as source:
        unpack(source, str(target), whole=True, cancelled=cancelled)


def open_image(directory: Path) -> Opened:
    """Find the image in an extracted archive. Raises ArchiveInvalid, DigestMismatch."""
    if (directory / "manifest.json").is_file():
        return _docker(directory)
    return _oci(directory)


def _docker(directory: Path) -> Opened:
    try:
        entries = json.loads(_read(_inside(directory, "manifest.json")))
    except (ValueError, RecursionError) as error:
        raise ArchiveInvalid(f"The archive's manifest.json is not JSON: {error}.") from error
    if not isinstance(entries, list) or not entries or not isinstance(entries[0], dict):
        raise ArchiveInvalid("The archive's manifest.json names no image.")
    if len(entries) > 1:
        raise ArchiveInvalid(
            f"The archive holds {len(entries)} images.",
            hint="Save them one by one: docker save IMAGE > image.tar",
        )
    config, layers = entries[0].get("Config"), entries[0].get("Layers")
    if not isinstance(config, str) or not _are_texts(layers):
        raise ArchiveInvalid("The archive's manifest.json names no config or no layers.")
    tags = entries[0].get("RepoTags")
    return Opened(
        _read(_inside(directory, config)),
        [_inside(directory, name) for name in layers],
        tuple(tags) if _are_texts(tags) else (),
    )


def _are_texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _oci(directory: Path) -> Opened:
    document = parse_object(_read(_inside(directory, "index.json")), "The archive's index.json")
    is_index(document, INDEXES[0])
    notes: Any = None
    for _ in range(_MAX_NESTING):
        entry = choose(document, "the archive's image", lenient=True)
        notes = notes or entry.get("annotations")
        descriptor = parse_descriptor(entry)
        document = parse_object(_read(_blob(directory, descriptor)), "The archive's manifest")
        if not is_index(document, entry.get("mediaType")):
            break
    else:
        raise ArchiveInvalid("The archive's indexes name each other without end.")
    manifest = parse_manifest(document)
    return Opened(
        _read(_blob(directory, manifest.config)),
        [_blob(directory, layer) for layer in manifest.layers],
        _names(notes),
        descriptor.digest,
    )


def _names(notes: Any) -> tuple[str, ...]:
    """The image's name from an index's annotations; a bare tag, as some tools write, is none."""
    if not isinstance(notes, dict):
        return ()
    for key in ("io.containerd.image.name", "org.opencontainers.image.ref.name"):
        name = notes.get(key)
        if isinstance(name, str) and (":" in name or "@" in name):
            return (name,)
    return ()


def _blob(directory: Path, descriptor: Descriptor) -> Path:
    """The file of a descriptor, checked against its digest."""
    path = _inside(directory, f"blobs/sha256/{descriptor.hex}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != descriptor.hex:
        raise DigestMismatch(
            f"Blob {descriptor.part} of the archive has other content than its name says.",
            hint="Make or download the archive again.",
        )
    return path


def _inside(directory: Path, name: str) -> Path:
    """A regular file of the archive; no link is followed, for it could lead anywhere."""
    path = directory / clean(name)
    if path.is_symlink():
        # Old `docker save` links a layer that an earlier image of the archive had.
        path = directory / clean(str(Path(clean(name)).parent / path.readlink()))
    for step in (path, *path.parents):
        if step == directory:
            break
        if step.is_symlink():
            raise ArchiveInvalid(f"{name} lies behind a link.", path=name)
    if not path.is_file():
        raise ArchiveInvalid(f"The archive names {name}, but does not hold it.", path=name)
    return path


def _read(path: Path) -> bytes:
    if path.stat().st_size > MAX_DOCUMENT:
        raise ArchiveInvalid(f"{path.name} is too large for what it should be.")
    return path.read_bytes()
