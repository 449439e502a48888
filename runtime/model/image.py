"""Images as the runtime knows them (OCI image spec 1.1, Docker image manifest v2 schema 2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The part of an OCI image config that running a container needs."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""
    exposed_ports: tuple[str, ...] = ()  # "80/tcp"
    volumes: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    shell: tuple[str, ...] = ("/bin/sh", "-c")
    healthcheck: dict[str, Any] | None = None  # as Docker writes it, durations in ns


@dataclass(frozen=True, slots=True)
class LayerRecord:
    diff_id: str  # sha256 of the uncompressed tar
    size: int  # bytes unpacked on disk
    created_by: str = ""


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image in the store, identified by the digest of its config ("sha256:…")."""

    id: str
    config: ImageConfig
    layers: tuple[LayerRecord, ...]  # bottom first
    architecture: str = "amd64"
    os: str = "linux"
    created: str = ""  # RFC 3339
    author: str = ""
    size: int = 0  # bytes, sum of the layers unpacked
    manifest_digest: str = ""  # as pulled; "" when imported without one
    references: tuple[str, ...] = ()  # only what the archive itself named


@dataclass(frozen=True, slots=True)
class ImageChanges:
    """What an image made of a container has otherwise than that container's image.

    None leaves what that has; a new entrypoint drops its command.
    """

    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()  # "NAME=value", added
    working_dir: str | None = None
    user: str | None = None
    exposed_ports: tuple[str, ...] = ()  # added, "80/tcp"
    volumes: tuple[str, ...] = ()  # added
    labels: dict[str, str] = field(default_factory=dict)  # added
    stop_signal: str | None = None
    shell: tuple[str, ...] | None = None
    healthcheck: dict[str, Any] | None = None  # as Docker writes it, durations in ns
    onbuild: tuple[str, ...] = ()  # instructions, added
    author: str = ""
    comment: str = ""
    created: str = ""  # RFC 3339


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a long operation, for one part of it (a layer, or "" for the whole)."""

    part: str
    stage: str  # "waiting" "downloading" "verifying" "unpacking" "done" "exists"
    current: int = 0  # bytes
    total: int = 0  # bytes; 0 = unknown
