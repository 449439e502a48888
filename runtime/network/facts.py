"""What must exist, on disk: networks (they survive a reboot) and published ports (they do not)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.errors import SpecInvalid, error_context
from runtime.model.codec import from_json, to_json
from runtime.model.spec import NetworkSpec
from runtime.network.ports import PublishedPort
from runtime.store.files import read_json, write_json
from runtime.store.paths import Config

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PortFacts:
    """The ports that one container publishes, and the host's ends of its veths.

    The veths tell whether the container lives: they go with its network namespace.
    """

    ports: tuple[PublishedPort, ...] = ()
    links: tuple[str, ...] = ()


class NetworkFiles:
    """One JSON file per network below `config.networks`."""

    def __init__(self, config: Config) -> None:
        self._directory = config.networks
        # As last read: a start asks half a dozen times for what changes never.
        self._known: dict[Path, tuple[tuple[int, int, int], NetworkSpec]] = {}

    def read(self, network_id: str) -> NetworkSpec | None:
        """None when there is none, or when its file is damaged (which is logged)."""
        return self._read(self._directory / f"{network_id}.json")

    def read_all(self) -> Sequence[NetworkSpec]:
        with error_context("network"):
            specs = [self._read(path) for path in _json_files(self._directory)]
        return [spec for spec in specs if spec is not None]

    def write(self, spec: NetworkSpec) -> None:
        """Raises KernelFailure, StorageFull."""
        with error_context("network", network=spec.id):
            self._directory.mkdir(parents=True, exist_ok=True)
            write_json(self._directory / f"{spec.id}.json", to_json(spec))

    def remove(self, network_id: str) -> None:
        with error_context("network", network=network_id):
            (self._directory / f"{network_id}.json").unlink(missing_ok=True)

    def _read(self, path: Path) -> NetworkSpec | None:
        try:
            with error_context("network"):
                if (version := _version(path)) is None:
                    self._known.pop(path, None)
                    return None
                known = self._known.get(path)
                if known is not None and known[0] == version:
                    return known[1]
                value = _json(path)
            if value is None:
                return None
            spec = from_json(NetworkSpec, value)
            self._known[path] = (version, spec)
            return spec
        except (ValueError, SpecInvalid):
            log.exception("The network's file %s is damaged.", path)
            return None


class PortFiles:
    """One JSON file per container that publishes ports, below `config.ports`."""

    def __init__(self, config: Config) -> None:
        self._directory = config.ports

    def read(self, container_id: str) -> PortFacts:
        """Without ports when there is no file, or when it is damaged (which is logged)."""
        return self._read(self._directory / f"{container_id}.json")

    def read_all(self) -> Iterable[PublishedPort]:
        with error_context("publish"):
            paths = _json_files(self._directory)
        return [port for path in paths for port in self._read(path).ports]

    def write(self, container_id: str, facts: PortFacts) -> None:
        """Raises KernelFailure, StorageFull."""
        with error_context("publish", container=container_id):
            self._directory.mkdir(parents=True, exist_ok=True)
            write_json(self._directory / f"{container_id}.json", to_json(facts), durable=False)

    def exists(self, container_id: str) -> bool:
        return (self._directory / f"{container_id}.json").exists()

    def remove(self, container_id: str) -> None:
        with error_context("unpublish", container=container_id):
            (self._directory / f"{container_id}.json").unlink(missing_ok=True)

    def _read(self, path: Path) -> PortFacts:
        try:
            with error_context("publish"):
                value = _json(path)
            return PortFacts() if value is None else from_json(PortFacts, value)
        except (ValueError, SpecInvalid):
            log.exception("The file of published ports %s is damaged.", path)
            return PortFacts()


def _json(path: Path) -> Any:
    """None when there is no such file. That it cannot be read says nothing about what is in it."""
    try:
        return read_json(path)
    except FileNotFoundError:
        return None


def _version(path: Path) -> tuple[int, int, int] | None:
    """What is another one after each write: files here are replaced whole. None when there is no file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _json_files(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if path.suffix == ".json")
    except FileNotFoundError:
        return []
