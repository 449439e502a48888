"""`docker network connect` and `disconnect`: the networks of a container that exists, running or not."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path

from runtime.engine import inside
from runtime.engine.etc import change_etc_files
from runtime.engine.lifecycle import require
from runtime.engine.observe import Observer
from runtime.engine.undo import Undo
from runtime.engine.wiring import Wiring
from runtime.errors import Conflict, EngineError, error_context
from runtime.model.spec import ContainerSpec, EndpointSpec
from runtime.model.state import RunState
from runtime.model.validate import validate_spec
from runtime.store.bundles import BundleStore
from runtime.store.paths import Config

logger = logging.getLogger(__name__)


class Joining:
    """Each method can be repeated, also after a process died in the middle of it."""

    def __init__(
        self, config: Config, *, bundles: BundleStore, wiring: Wiring, observer: Observer
    ) -> None:
        self._config = config
        self._bundles = bundles
        self._wiring = wiring
        self._observer = observer

    def connect(self, container_id: str, endpoint: EndpointSpec) -> ContainerSpec:
        """Join one more network: at once when it runs, from its next start otherwise; nothing happens when it is
        there already. Returns the new specification.

        Raises SpecInvalid for one without a network of its own, Conflict when it is on the network by another
        address, NotFound, NetlinkFailure, FirewallFailure; everything is then as before.
        """
        with error_context("connect", id=container_id), self._observer.locked(container_id):
            spec = self._spec_to_change(container_id)
            there = next((e for e in spec.endpoints if e.network_id == endpoint.network_id), None)
            if there is not None and there != endpoint:
                raise Conflict(
                    "The container is on this network already.",
                    hint="Disconnect it first, to give it another address or other names there.",
                    field="network",
                )
            if there is None:
                # Another attempt may have got as far as to make it.
                self._wiring.unplug(container_id, endpoint.network_id)
                endpoints = (*spec.endpoints, endpoint)
            else:
                endpoints = spec.endpoints
            changed = dataclasses.replace(spec, endpoints=endpoints)
            return self._change(spec, changed, endpoint.network_id)

    def disconnect(self, container_id: str, network_id: str) -> ContainerSpec:
        """Leave a network; nothing happens when it is not on it. Returns the new specification.

        Raises as `connect` does.
        """
        with error_context("disconnect", id=container_id), self._observer.locked(container_id):
            spec = self._spec_to_change(container_id)
            endpoints = tuple(e for e in spec.endpoints if e.network_id != network_id)
            changed = dataclasses.replace(spec, endpoints=endpoints)
            return self._change(spec, changed, network_id)

    def enforce(self, container_id: str, network_id: str) -> ContainerSpec:
        """Have what runs follow the specification on disk, whatever a change that was cut short has left."""
        with error_context("connect", id=container_id), self._observer.locked(container_id):
            spec = self._bundles.spec(container_id)
            self._follow(spec, network_id)
            return spec

    def _spec_to_change(self, container_id: str) -> ContainerSpec:
        require(self._observer.settled(container_id), "update")
        return self._bundles.spec(container_id)

    def _change(
        self, spec: ContainerSpec, changed: ContainerSpec, network_id: str
    ) -> ContainerSpec:
        validate_spec(changed, made=True)
        with Undo() as undo:
            undo.push(self._follow, spec, network_id)
            undo.push(self._change_etc, changed, spec)
            self._follow(changed, network_id)
            self._change_etc(spec, changed)
            # First, as this may be what failed: its last step comes after the new file is in place.
            undo.push(self._bundles.write_spec, spec)
            self._bundles.write_spec(changed)
        return changed

    def _follow(self, spec: ContainerSpec, network_id: str) -> None:
        """Make the host's side and the container's own as `spec` has that network."""
        networks = self._wiring.networks_of(spec)
        observed = self._observer.settled(spec.id)
        if not observed.status.is_active or observed.run is None:
            # Of one that was running when it was begun.
            self._wiring.forget(spec.id)
            return
        self._wiring.prepare(networks)
        try:
            self._reach(observed.run, spec, network_id)
        except EngineError:
            # It may have ended just now, and its namespace with it.
            if self._observer.settled(spec.id).status.is_active:
                raise
            self._wiring.forget(spec.id)

    def _reach(self, run: RunState, spec: ContainerSpec, network_id: str) -> None:
        with inside.network_of(spec.id, run) as netns:
            self._wiring.follow(spec, network_id, self._wiring.networks_of(spec), netns)

    def _change_etc(self, before: ContainerSpec, after: ContainerSpec) -> None:
        for directory in self._etc_directories(after.id):
            change_etc_files(directory, before, after)

    def _etc_directories(self, container_id: str) -> Iterator[Path]:
        """Of the container, and of those that share its network and so have the same files."""
        for other in (container_id, *self._sharing(container_id)):
            directory = self._config.container_run(other)
            if (directory / "hosts").exists():
                yield directory

    def _sharing(self, container_id: str) -> Iterator[str]:
        mode = f"container:{container_id}"
        for other in self._bundles.ids():
            try:
                if self._bundles.spec(other).namespaces.network == mode:
                    yield other
            except (EngineError, OSError) as error:
                # Being removed, or unreadable: no reason to leave another one as it is.
                logger.info("Whether %s shares a network cannot be told: %s", other[:12], error)
