"""The host's side of a container's network: links, published ports, names. Every step can be repeated."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

from runtime.engine.undo import Undo
from runtime.errors import EngineError, NotFound, error_context
from runtime.model.spec import ContainerSpec, NetworkSpec
from runtime.network import NetworkManager
from runtime.network.ports import ports_of


class Wiring:
    def __init__(self, networks: NetworkManager) -> None:
        self._networks = networks

    def networks_of(self, spec: ContainerSpec) -> dict[str, NetworkSpec]:
        """The networks of all endpoints, by id. Raises NotFound with the field."""
        result = {}
        for index, endpoint in enumerate(spec.endpoints):
            try:
                result[endpoint.network_id] = self._networks.get(endpoint.network_id)
            except NotFound as error:
                error.extra.setdefault("field", f"endpoints[{index}].network_id")
                error.hint = error.hint or "Create the network, or choose another."
                raise
        return result

    def check(self, spec: ContainerSpec) -> None:
        """Refuse what could never be connected. Raises NotFound or Unsupported with the field."""
        self.networks_of(spec)
        if spec.endpoints:
            ends = spec.endpoints
            ports_of(spec, ends[0], next((end for end in ends if end.address6), None))

    def links(self, spec: ContainerSpec) -> tuple[str, ...]:
        """Names of the host's ends of the container's interfaces."""
        return tuple(self._networks.ifname(spec.id, e.network_id) for e in spec.endpoints)

    def repair(self) -> bool:
        """Put bridges and rules right that somebody flushed; True when there was something to do."""
        return self._networks.repair()

    def prepare(self, networks: dict[str, NetworkSpec]) -> None:
        """Bring the bridges up; quick when they are."""
        for network in networks.values():
            with error_context("network", network=network.id):
                self._networks.ensure(network)

    def connect(self, spec: ContainerSpec, pid: int, undo: Undo) -> None:
        """Give the network namespace of `pid` its interfaces, publish ports, announce names."""
        if not spec.endpoints:
            return
        undo.push(self.disconnect, spec)
        with error_context("network", id=spec.id):
            for index, endpoint in enumerate(spec.endpoints):
                self._networks.attach(spec, endpoint, index, pid)
            if spec.ports:
                self._networks.publish(spec)
            self._networks.register_names(spec)

    def disconnect(self, spec: ContainerSpec, *, links: bool = True) -> None:
        """Take all of it away again; nothing is missing when it is gone. Tries every part.

        `links=False` leaves the interfaces to the kernel, which takes them along with the network namespace: to delete
        one at once takes it 20 ms.
        """
        steps: list[Callable[[], None]] = [
            partial(self._networks.unregister_names, spec.id),
            partial(self._networks.unpublish, spec.id),
        ]
        if links:
            steps += [partial(self._networks.detach, spec.id, e.network_id) for e in spec.endpoints]
        failed: EngineError | OSError | None = None
        for step in steps:
            try:
                step()
            except (EngineError, OSError) as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def forget(self, container_id: str) -> None:
        """As disconnect, for a container whose specification is lost."""
        self._networks.unpublish(container_id)
        self._networks.unregister_names(container_id)

    def renamed(self, spec: ContainerSpec, name: str) -> None:
        """Answer to the new name instead of the old one."""
        if spec.endpoints:
            self._networks.unregister_names(spec.id)
            self._networks.register_names(dataclasses.replace(spec, name=name))
