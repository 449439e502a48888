"""From an OCI or Docker image config to what running needs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from runtime.errors import ArchiveInvalid
from runtime.images.manifest import checked_digest, parse_object
from runtime.model.image import ImageChanges, ImageConfig, ImageRecord, LayerRecord
from runtime.model.parse import parse_env

# What old Docker wrote about the one image, which another does not inherit.
_OF_ITS_OWN = (
    "author", "comment", "container", "container_config", "docker_version", "id", "parent",
)  # fmt: skip


def parse_config(raw: bytes) -> dict[str, Any]:
    """The JSON document. Raises ArchiveInvalid."""
    return parse_object(raw, "The image's config")


def diff_ids(document: dict[str, Any]) -> list[str]:
    """Digests of the layers' plain tars, bottom first. Raises ArchiveInvalid."""
    rootfs = document.get("rootfs")
    found = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(found, list):
        raise ArchiveInvalid("The image's config names no layers: it is no container image.")
    return [checked_digest(value) for value in found]


def to_record(
    raw: bytes, *, sizes: Sequence[int], manifest_digest: str = "", references: Sequence[str] = ()
) -> ImageRecord:
    """The image whose config is `raw`; `sizes` are its layers' bytes, bottom first.

    Raises ArchiveInvalid when a field is of another type than the OCI image spec (config.md) gives it.
    """
    document = parse_config(raw)
    created_by = _created_by(document)
    ids = diff_ids(document)
    layers = tuple(
        LayerRecord(diff_id, size, created_by[i] if i < len(created_by) else "")
        for i, (diff_id, size) in enumerate(zip(ids, sizes, strict=True))
    )
    return ImageRecord(
        id=f"sha256:{hashlib.sha256(raw).hexdigest()}",
        config=_run_config(_object(document, "config")),
        layers=layers,
        architecture=_text(document, "architecture"),
        os=_text(document, "os") or "linux",
        created=_text(document, "created"),
        author=_text(document, "author"),
        size=sum(sizes),
        manifest_digest=manifest_digest,
        references=tuple(references),
    )


def derived(
    document: dict[str, Any], diff_id: str, changes: ImageChanges, created_by: str
) -> dict[str, Any]:
    """The config of an image with one more layer. Raises ArchiveInvalid as `to_record`."""
    config = dict(_object(document, "config"))
    if changes.entrypoint is not None:
        config |= {"Entrypoint": list(changes.entrypoint), "Cmd": None}
    if changes.cmd is not None:
        config["Cmd"] = list(changes.cmd)
    if changes.env:
        config["Env"] = list(parse_env([*_texts(config, "Env"), *changes.env]))
    for key, value in (
        ("WorkingDir", changes.working_dir),
        ("User", changes.user),
        ("StopSignal", changes.stop_signal),
        ("Shell", None if changes.shell is None else list(changes.shell)),
        ("Healthcheck", changes.healthcheck),
    ):
        if value is not None:
            config[key] = value
    if changes.labels:
        config["Labels"] = {**_object(config, "Labels"), **changes.labels}
    for key, names in (("ExposedPorts", changes.exposed_ports), ("Volumes", changes.volumes)):
        if names:
            config[key] = {**_object(config, key), **{name: {} for name in names}}
    if changes.onbuild:
        config["OnBuild"] = [*_texts(config, "OnBuild"), *changes.onbuild]
    layers = diff_ids(document)
    step: dict[str, Any] = {"created": changes.created, "created_by": created_by}
    step |= {k: v for k in ("author", "comment") if (v := getattr(changes, k))}
    kept = {k: v for k, v in document.items() if k not in _OF_ITS_OWN}
    return {
        **kept,
        "created": changes.created,
        **({"author": changes.author} if changes.author else {}),
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [*layers, diff_id]},
        "history": [*_history(document, len(layers)), step],
    }


def _history(document: dict[str, Any], layers: int) -> list[dict[str, Any]]:
    """With a step for each layer: an image whose history is shorter would give ours to a lower one."""
    found = document.get("history")
    steps = [s for s in (found if isinstance(found, list) else ()) if isinstance(s, dict)]
    missing = layers - sum(not step.get("empty_layer") for step in steps)
    return [*steps, *({"created_by": ""} for _ in range(missing))]


def _run_config(data: dict[str, Any]) -> ImageConfig:
    return ImageConfig(
        entrypoint=_texts(data, "Entrypoint"),
        cmd=_texts(data, "Cmd"),
        env=_texts(data, "Env"),
        working_dir=_text(data, "WorkingDir"),
        user=_text(data, "User"),
        exposed_ports=tuple(sorted(_object(data, "ExposedPorts"))),
        volumes=tuple(sorted(_object(data, "Volumes"))),
        labels={k: str(v) for k, v in _object(data, "Labels").items()},
        stop_signal=_text(data, "StopSignal"),
        shell=_texts(data, "Shell") or ("/bin/sh", "-c"),
        healthcheck=_object(data, "Healthcheck") or None,
    )


def _text(data: dict[str, Any], key: str) -> str:
    value = data.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _strange(key, value)
    return value


def _texts(data: dict[str, Any], key: str) -> tuple[str, ...]:
    """A list of texts; one text is a shell's command, as old builders wrote it."""
    value = data.get(key)
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        return ("/bin/sh", "-c", value)
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise _strange(key, value)
    return tuple(value)


def _object(data: dict[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _strange(key, value)
    return value


def _strange(key: str, value: object) -> ArchiveInvalid:
    return ArchiveInvalid(f"The image's config has {str(value)[:80]!r} as its {key}.")


def _created_by(document: dict[str, Any]) -> list[str]:
    """The commands of the history that made a layer, in the layers' order."""
    history = document.get("history")
    return [
        str(step.get("created_by") or step.get("comment") or "")
        for step in (history if isinstance(history, list) else ())
        if isinstance(step, dict) and not step.get("empty_layer")
    ]
