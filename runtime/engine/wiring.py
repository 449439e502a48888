"""The host's side of a container's network: links, published ports, names. Every step can be repeated."""

from __future__ import annotations

import dataclasses

from runtime.engine.undo import Undo
from runtime.errors import EngineError, NotFound, error_context
from runtime.model.spec import ContainerSpec, NetworkSpec
from runtime.network import NetworkManager


class Wiring:
    def __init__(self, networks: NetworkManager) -> None:
        self._networks = networks

    def networks_of(self, spec: ContainerSpec) -> dict[str, NetworkSpec]:
        """The networks of all endpoints, by id. Raises NotFound with the field."""
        if not spec.endpoints:
            return {}
        known = {n.id: n for n in self._networks.list()}
        for index, endpoint in enumerate(spec.endpoints):
            if endpoint.network_id not in known:
                raise NotFound(
                    f"There is no network {endpoint.network_id[:12]} on this host.",
                    hint="Create the network, or choose another.",
                    field=f"endpoints[{index}].network_id",
                )
        return {e.network_id: known[e.network_id] for e in spec.endpoints}

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

    def disconnect(self, spec: ContainerSpec) -> None:
        """Take all of it away again; nothing is missing when it is gone. Tries every part."""
        failed: EngineError | OSError | None = None
        steps = [lambda: self._networks.unpublish(spec.id)] if spec.ports else []
        steps.append(lambda: self._networks.unregister_names(spec.id))
        for index, endpoint in enumerate(spec.endpoints):
            steps.append(lambda i=index, e=endpoint: self._networks.detach(spec, e, i))  # type: ignore[misc]
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
