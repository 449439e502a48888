"""From an OCI or Docker image config to what running needs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from runtime.errors import ArchiveInvalid
from runtime.model.image import ImageConfig, ImageRecord, LayerRecord


def parse_config(raw: bytes) -> dict[str, Any]:
    """The JSON document. Raises ArchiveInvalid."""
    try:
        document = json.loads(raw)
    except ValueError as error:
        raise ArchiveInvalid(f"The image's config is not JSON: {error}.") from error
    if not isinstance(document, dict):
        raise ArchiveInvalid("The image's config is not an object.")
    return document


def diff_ids(document: dict[str, Any]) -> list[str]:
    """Digests of the layers' plain tars, bottom first."""
    found = (document.get("rootfs") or {}).get("diff_ids")
    if not isinstance(found, list) or not all(isinstance(d, str) for d in found):
        raise ArchiveInvalid("The image's config names no layers.")
    return found


def to_record(
    raw: bytes, *, sizes: Sequence[int], manifest_digest: str = "", references: Sequence[str] = ()
) -> ImageRecord:
    """The image whose config is `raw`; `sizes` are its layers' bytes, bottom first."""
    document = parse_config(raw)
    created_by = _created_by(document)
    ids = diff_ids(document)
    layers = tuple(
        LayerRecord(diff_id, size, created_by[i] if i < len(created_by) else "")
        for i, (diff_id, size) in enumerate(zip(ids, sizes, strict=True))
    )
    return ImageRecord(
        id=f"sha256:{hashlib.sha256(raw).hexdigest()}",
        config=_run_config(document.get("config") or {}),
        layers=layers,
        architecture=str(document.get("architecture") or ""),
        os=str(document.get("os") or "linux"),
        created=str(document.get("created") or ""),
        author=str(document.get("author") or ""),
        size=sum(sizes),
        manifest_digest=manifest_digest,
        references=tuple(references),
    )


def _run_config(data: dict[str, Any]) -> ImageConfig:
    return ImageConfig(
        entrypoint=_texts(data.get("Entrypoint")),
        cmd=_texts(data.get("Cmd")),
        env=_texts(data.get("Env")),
        working_dir=str(data.get("WorkingDir") or ""),
        user=str(data.get("User") or ""),
        exposed_ports=tuple(sorted(data.get("ExposedPorts") or ())),
        volumes=tuple(sorted(data.get("Volumes") or ())),
        labels={str(k): str(v) for k, v in (data.get("Labels") or {}).items()},
        stop_signal=str(data.get("StopSignal") or ""),
        shell=_texts(data.get("Shell")) or ("/bin/sh", "-c"),
        healthcheck=data.get("Healthcheck"),
    )


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return ("/bin/sh", "-c", value)
    return tuple(str(v) for v in value or ())


def _created_by(document: dict[str, Any]) -> list[str]:
    """The commands of the history that made a layer, in the layers' order."""
    return [
        str(step.get("created_by") or step.get("comment") or "")
        for step in document.get("history") or ()
        if isinstance(step, dict) and not step.get("empty_layer")
    ]
