"""Image references: `[registry/]repository[:tag][@digest]`, with Docker Hub's defaults.

Grammar: https://github.com/distribution/reference. Standard library only; webui uses it too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from runtime.errors import SpecInvalid

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"
_OFFICIAL = "library/"
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
    r"|\[[0-9a-fA-F:]+\])(?::(?P<port>[0-9]{1,5}))?"
)
_MAX_REPOSITORY = 255
_MAX_TEXT = 1024
_MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class Reference:
    """Where an image is found. Either `tag` or `digest` decides; a digest wins when both are there."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str, field: str = "reference") -> Reference:
        """Read what people write. Raises SpecInvalid(field) with what is wrong."""
        if len(text) > _MAX_TEXT:
            raise _invalid(field, text[:80] + "…", "it is too long")
        rest, at, digest = text.strip().partition("@")
        if at and not _DIGEST.fullmatch(digest):
            raise _invalid(field, text, f"{digest!r} is not a sha256 digest")
        head, slash, tail = rest.rpartition("/")
        name, colon, tag = tail.partition(":")
        if colon and not _TAG.fullmatch(tag):
            raise _invalid(field, text, f"{tag!r} is not a tag")
        first, _, others = f"{head}{slash}{name}".partition("/")
        registry, repository = DEFAULT_REGISTRY, f"{head}{slash}{name}"
        # As Docker: a first part that can only be a host name is one. Unlike Docker, capitals do not
        # make it one: whoever writes them means a repository, and a look-up would only take time.
        if others and ("." in first or ":" in first or first == "localhost"):
            registry, repository = first, others
        if registry in ("index.docker.io", "registry-1.docker.io"):
            registry = DEFAULT_REGISTRY
        if not _is_host(registry):
            raise _invalid(field, text, f"{registry!r} is not a registry's host name")
        if registry == DEFAULT_REGISTRY and "/" not in repository:
            repository = _OFFICIAL + repository
        parts = repository.split("/")
        if len(repository) > _MAX_REPOSITORY or not all(_COMPONENT.fullmatch(p) for p in parts):
            shown = repository.removeprefix(_OFFICIAL)
            raise _invalid(field, text, f"{shown!r} is not a repository (lower-case letters)")
        if not tag and not digest:
            tag = DEFAULT_TAG
        return cls(registry, repository, tag, digest)

    @property
    def full(self) -> str:
        """Every part spelled out: "docker.io/library/nginx:latest"."""
        return f"{self.registry}/{self.repository}{self._suffix}"

    @property
    def familiar(self) -> str:
        """As short as it can be and still mean the same: "nginx:latest"."""
        if self.registry != DEFAULT_REGISTRY:
            return self.full
        short = f"{self.repository.removeprefix(_OFFICIAL)}{self._suffix}"
        # "0.0/app" of Docker Hub would read as the app of a host named 0.0.
        return short if Reference.parse(short) == self else self.full

    @property
    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.familiar


def _is_host(text: str) -> bool:
    """A host name or address, perhaps with a port."""
    match = _HOST.fullmatch(text)
    return match is not None and int(match["port"] or 0) <= _MAX_PORT


def _invalid(field: str, text: str, why: str) -> SpecInvalid:
    return SpecInvalid(
        field,
        f"{text!r} is not an image reference: {why}.",
        hint="Write [registry/]repository[:tag], for example nginx:1.27 or ghcr.io/owner/app:2.",
    )
