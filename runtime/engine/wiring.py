"""The host's side of a container's network: links, published ports, names. Every step can be repeated."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

from runtime.engine import inside
from runtime.engine.planning import interfaces
from runtime.engine.undo import Undo
from runtime.errors import Conflict, EngineError, NotFound, error_context
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

    @staticmethod
    def check_current(spec: ContainerSpec, networks: dict[str, NetworkSpec]) -> None:
        """Raise Conflict when an address is of a subnet that its network has no more: it is being moved."""
        for end in spec.endpoints:
            network = networks[end.network_id]
            six = (end.gateway6, network.gateway6) if end.address6 else ("", "")
            if (
                end.gateway != network.gateway
                or six[0] != six[1]
                or not network.subnet.endswith(f"/{end.prefix_length}")
            ):
                raise Conflict(
                    f"{end.address} is no address of network {network.name} ({network.subnet}).",
                    hint="Wait until the network has been moved, or disconnect the container from it and"
                    " connect it again.",
                    network=network.id,
                )

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
                self._networks.publish(_answering(spec))
            self._networks.register_names(spec)

    def follow(
        self, spec: ContainerSpec, network_id: str, networks: dict[str, NetworkSpec], netns: int
    ) -> None:
        """Make one network of a container that runs as `spec` has it, joined or not, whatever is there.

        `networks` are those of `spec`, `netns` is a descriptor of its network namespace. Routes and published
        ports follow, as they may lead through another one now.
        """
        with error_context("network", id=spec.id, network=network_id):
            indices = {each: self._networks.plugged(spec.id, each) for each in networks}
            wanted = {
                endpoint.network_id: interface
                for endpoint, interface in zip(
                    spec.endpoints, interfaces(spec, networks), strict=True
                )
            }
            joined = next((e for e in spec.endpoints if e.network_id == network_id), None)
            if joined is None:
                self._networks.unregister_names(spec.id, network_id)
                self._networks.republish(_answering(spec))
                self._networks.detach(spec.id, network_id)
            else:
                if not indices[network_id]:
                    name = inside.free_name(netns)
                    indices[network_id] = self._networks.plug(spec, joined, name, netns)
                inside.set_up(netns, indices[network_id], wanted[network_id])
                self._networks.republish(_answering(spec))
                self._networks.register_names(spec)
            # One that the container has done away with itself stays away.
            present = [(index, wanted[each]) for each, index in indices.items() if index]
            inside.route(netns, present)

    def unplug(self, container_id: str, network_id: str) -> None:
        """Take an interface away that is not to be there; none is no error."""
        self._networks.detach(container_id, network_id)

    def disconnect(self, spec: ContainerSpec) -> None:
        """Take all of it away again; nothing is missing when it is gone. Tries every part."""
        _all_of(
            partial(self.forget, spec.id),
            *(partial(self._networks.detach, spec.id, e.network_id) for e in spec.endpoints),
        )

    def forget(self, container_id: str) -> None:
        """As disconnect, by the id alone. Interfaces are left to the kernel, which takes them along with the network
        namespace: to delete one at once takes it 20 ms.
        """
        _all_of(
            partial(self._networks.unregister_names, container_id),
            partial(self._networks.unpublish, container_id),
        )

    def renamed(self, spec: ContainerSpec, name: str) -> None:
        """Answer to the new name instead of the old one."""
        if spec.endpoints:
            self._networks.unregister_names(spec.id)
            self._networks.register_names(dataclasses.replace(spec, name=name))


def _all_of(*steps: Callable[[], None]) -> None:
    """Try each, and raise the first error."""
    failed: EngineError | OSError | None = None
    for step in steps:
        try:
            step()
        except (EngineError, OSError) as error:
            failed = failed or error
    if failed is not None:
        raise failed


def _answering(spec: ContainerSpec) -> ContainerSpec:
    """Without the ports that no network of the container can lead to: its last one with IPv6 was taken from it."""
    if any(endpoint.address6 for endpoint in spec.endpoints):
        return spec
    ports = tuple(port for port in spec.ports if ":" not in port.host_ip)
    return spec if ports == spec.ports else dataclasses.replace(spec, ports=ports)
