"""The documents that lead from a name to an image's config and layers, read with suspicion.

Sources: OCI image spec 1.1 (manifest.md, image-index.md, descriptor.md); Docker image manifest v2 schema 2,
which differs in media types only. Digests end up in paths, so nothing that is not one passes.
"""

from __future__ import annotations

import json
import platform
import re
from dataclasses import dataclass
from typing import Any

from runtime.errors import ArchiveInvalid

MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_KINDS: dict[object, str] = {**dict.fromkeys(MANIFESTS, "image"), **dict.fromkeys(INDEXES, "index")}
# What only one of the two has.
_MEMBERS = {"manifests": "index", "layers": "image", "config": "image"}
MAX_DOCUMENT = 8 << 20  # bytes of one manifest, index or config
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# The variant that every processor of an architecture runs; "" is how most indexes spell it.
_BASE_VARIANTS = {"amd64": ("", "v1"), "arm64": ("", "v8")}


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Content by its digest ("sha256:<64 hex>") and size in bytes."""

    digest: str
    size: int

    @property
    def hex(self) -> str:
        return self.digest.removeprefix("sha256:")

    @property
    def part(self) -> str:
        """The short name of a layer in its progress."""
        return self.hex[:12]


@dataclass(frozen=True, slots=True)
class Manifest:
    config: Descriptor
    layers: tuple[Descriptor, ...]  # bottom first


def architecture() -> str:
    """This host's, in the words of the OCI image spec."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def checked_digest(value: object) -> str:
    """`value` if it is a sha256 digest. Raises ArchiveInvalid."""
    if isinstance(value, str) and _DIGEST.fullmatch(value):
        return value
    raise ArchiveInvalid(f"The image names {str(value)[:80]!r}, which is no sha256 digest.")


def parse_object(raw: bytes, what: str) -> dict[str, Any]:
    """The JSON object in `raw`; `what` names it in errors. Raises ArchiveInvalid."""
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ArchiveInvalid(f"{what} is not JSON: {error}.") from error
    if not isinstance(document, dict):
        raise ArchiveInvalid(f"{what} is not a JSON object.")
    return document


def parse_descriptor(value: object) -> Descriptor:
    """Raises ArchiveInvalid."""
    if not isinstance(value, dict):
        raise ArchiveInvalid("The image's manifest holds something that is no descriptor.")
    size = value.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ArchiveInvalid(f"The image's manifest names the size {str(size)[:40]!r}.")
    return Descriptor(checked_digest(value.get("digest")), size)


def is_index(document: dict[str, Any], sent_as: object = "") -> bool:
    """It leads to manifests, and is none. `sent_as` is the media type that whoever led here gave it.

    One that two readers may take for two things, an index and an image, is refused: what one of them
    examined the other would run (CVE-2021-41190; OCI image spec 1.1, "mediaType" in manifest.md).
    Raises ArchiveInvalid.
    """
    reads_as = {
        *(_KINDS[kind] for kind in (document.get("mediaType"), sent_as) if kind in _KINDS),
        *(kind for key, kind in _MEMBERS.items() if key in document),
    }
    if len(reads_as) > 1:
        raise ArchiveInvalid(
            "The image's manifest can be read both as an image and as an index of images.",
            hint="Do not run it: such documents are made to deceive. Get the image from elsewhere.",
        )
    return reads_as == {"index"}


def is_manifest(document: dict[str, Any]) -> bool:
    """False for what came before schema 2, and for what is no image at all."""
    return isinstance(document.get("layers"), list) and "config" in document


def parse_manifest(document: dict[str, Any]) -> Manifest:
    """Raises ArchiveInvalid."""
    if not is_manifest(document):
        raise ArchiveInvalid("The image's manifest names no config or no layers.")
    layers = tuple(parse_descriptor(layer) for layer in document["layers"])
    return Manifest(parse_descriptor(document["config"]), layers)


def choose(index: dict[str, Any], image: str, *, lenient: bool = False) -> dict[str, Any]:
    """The entry of an index that this host runs: linux, its architecture, the plainest variant.

    `lenient` takes entries that name no platform for fitting, as an archive of one image has them.
    `image` is named in errors. Raises ArchiveInvalid, which says what there is instead.
    """
    entries = index.get("manifests")
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise ArchiveInvalid(f"The index of {image} cannot be read.")
    wanted = architecture()
    fitting: list[tuple[int, dict[str, Any]]] = []
    offered: set[str] = set()
    for entry in entries:
        where = entry.get("platform")
        if not isinstance(where, dict):
            if lenient:
                fitting.append((0, entry))
            continue
        if (where.get("os"), where.get("architecture")) == ("linux", wanted):
            plain = str(where.get("variant") or "") in _BASE_VARIANTS.get(wanted, ("",))
            fitting.append((0 if plain else 1, entry))
        elif where.get("os") != "unknown":  # how attestations are kept out of sight
            offered.add(f"{where.get('os')}/{where.get('architecture')}")
    if fitting:
        return min(fitting, key=lambda pair: pair[0])[1]
    raise ArchiveInvalid(
        f"{image} is not made for linux/{wanted}, which this host is.",
        hint=f"It is made for {', '.join(sorted(offered)) or 'nothing'}.",
    )
