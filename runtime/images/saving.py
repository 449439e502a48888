"""An image as an archive: what `docker save` writes and `docker load` reads, and an OCI layout at once.

    blobs/sha256/<hex>   layers, config and manifest
    manifest.json        Docker's index: config, names, layers
    index.json, oci-layout

Layers lie unpacked on disk, so they are packed anew: the same image makes the same archive each time, but digests of
layers that others have packed change, and the image's with them. Each layer is read twice, once for its digest and
size, which come before its content. Sources: OCI image spec (image-layout.md), Docker image spec v1.2.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, Any

from runtime.errors import EngineError
from runtime.images.config import diff_ids, parse_config
from runtime.images.manifest import INDEXES, MANIFESTS, Descriptor
from runtime.model.reference import Reference

_BLOCK = 1 << 18  # bytes read at a time
_SECTOR = 512
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"

OpenLayer = Callable[[Path], IO[bytes]]  # the tar of an unpacked layer, plain


def archive(
    config: bytes, layers: Sequence[Path], names: Sequence[str], open_layer: OpenLayer
) -> Iterator[bytes]:
    """The archive of one image in blocks: its config as written, its unpacked layers, bottom first.

    `names` are references; one by digest is no name for what is packed anew. Raises what reading the layers raises,
    EngineError when one changes meanwhile.
    """
    for directory in ("blobs/", "blobs/sha256/"):
        yield _directory(directory)
    found: list[Descriptor] = []
    for layer in layers:
        blob = _measured(open_layer(layer))
        if blob not in found:
            yield from _packed(blob, open_layer(layer))
        found.append(blob)
    raw = _with_layers(config, found)
    described = _descriptor(raw)
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFESTS[0],
            "config": _told(described, _CONFIG),
            "layers": [_told(blob, _LAYER) for blob in found],
        }
    )
    main = _descriptor(manifest)
    yield _file(_path(described), raw)
    yield _file(_path(main), manifest)
    tagged = [each for each in map(Reference.parse, names) if not each.digest]
    yield _file("index.json", _json(_index(main, tagged)))
    entry = {
        "Config": _path(described),
        "RepoTags": [each.familiar for each in tagged] or None,
        "Layers": [_path(blob) for blob in found],
    }
    yield _file("manifest.json", _json([entry]))
    yield _file("oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
    yield bytes(2 * _SECTOR)


def _with_layers(config: bytes, layers: list[Descriptor]) -> bytes:
    """The config with these layers; as it was written, and so of the same digest, when it has them already."""
    document, digests = parse_config(config), [blob.digest for blob in layers]
    if diff_ids(document) == digests:
        return config
    return _json({**document, "rootfs": {"type": "layers", "diff_ids": digests}})


def _index(manifest: Descriptor, names: Sequence[Reference]) -> dict[str, Any]:
    entry = _told(manifest, MANIFESTS[0])
    notes = [
        {
            "io.containerd.image.name": name.full,
            "org.opencontainers.image.ref.name": name.tag,
        }
        for name in names
    ]
    entries = [{**entry, "annotations": note} for note in notes] or [entry]
    return {"schemaVersion": 2, "mediaType": INDEXES[0], "manifests": entries}


def _measured(stream: IO[bytes]) -> Descriptor:
    digest, size = hashlib.sha256(), 0
    with closing(stream):
        while block := stream.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return Descriptor(f"sha256:{digest.hexdigest()}", size)


def _packed(blob: Descriptor, stream: IO[bytes]) -> Iterator[bytes]:
    yield _header(_path(blob), blob.size)
    digest, left = hashlib.sha256(), blob.size
    with closing(stream):
        while block := stream.read(_BLOCK):
            digest.update(block)
            left -= len(block)
            if left < 0:
                break
            yield block
    if left or f"sha256:{digest.hexdigest()}" != blob.digest:
        raise EngineError(
            "A layer of the image has changed while it was read.",
            hint="Somebody works on Slipway's own files: pull or import the image again.",
        )
    yield _padding(blob.size)


def _descriptor(data: bytes) -> Descriptor:
    return Descriptor(f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))


def _told(blob: Descriptor, kind: str) -> dict[str, Any]:
    return {"mediaType": kind, "digest": blob.digest, "size": blob.size}


def _path(blob: Descriptor) -> str:
    return f"blobs/sha256/{blob.hex}"


def _file(name: str, data: bytes) -> bytes:
    return _header(name, len(data)) + data + _padding(len(data))


def _directory(name: str) -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, 0o755
    return member.tobuf(tarfile.PAX_FORMAT)


def _header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.mode, member.size = 0o644, size
    return member.tobuf(tarfile.PAX_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % _SECTOR)


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
