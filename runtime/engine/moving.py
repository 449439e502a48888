"""Another subnet for a network that has containers, while none of them runs: their addresses change with it.

A container and its network are changed one after the other. What is started in between is refused
(`Wiring.check_current`): its address and its network's subnet do not belong together then.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from runtime.engine.observe import Observer
from runtime.engine.undo import Undo
from runtime.errors import NetworkInUse, NotFound, error_context
from runtime.model.spec import EndpointSpec, NetworkSpec
from runtime.network import NetworkManager
from runtime.store.bundles import BundleStore


class Moving:
    """Each method can be repeated, also after a process died in the middle of it."""

    def __init__(
        self, *, bundles: BundleStore, networks: NetworkManager, observer: Observer
    ) -> None:
        self._bundles = bundles
        self._networks = networks
        self._observer = observer

    def move(self, network: NetworkSpec, endpoints: Mapping[str, EndpointSpec]) -> None:
        """Give the network the subnets of `network`, and its containers, by id, their endpoints there.

        Raises NetworkInUse while one of them runs, Conflict when a subnet is in use, NetlinkFailure,
        FirewallFailure, KernelFailure; everything is then as before.
        """
        with error_context("network", network=network.id), Undo() as undo:
            for container_id, endpoint in endpoints.items():
                before = self._give(container_id, endpoint)
                if before is not None:
                    undo.push(self._give, container_id, before)
            self._networks.move(network)

    def put_back(self, network: NetworkSpec, endpoints: Mapping[str, EndpointSpec]) -> None:
        """After a move that was cut short: have network and containers be as given; what runs, ran before."""
        with error_context("network", network=network.id):
            self._networks.put_back(network)
            for container_id, endpoint in endpoints.items():
                try:
                    self._give(container_id, endpoint)
                except NetworkInUse:
                    continue

    def _give(self, container_id: str, endpoint: EndpointSpec) -> EndpointSpec | None:
        """What the container had there before; None when there is nothing to change. Raises NetworkInUse."""
        with self._observer.locked(container_id):
            try:
                observed = self._observer.settled(container_id)
                spec = self._bundles.spec(container_id)
            except NotFound:
                return None
            before = next((e for e in spec.endpoints if e.network_id == endpoint.network_id), None)
            if before is None or before == endpoint:
                return None
            if observed.status.is_active:
                raise NetworkInUse(
                    f"{spec.name} is {observed.status}.",
                    hint="Stop it first: its address changes.",
                    id=container_id,
                )
            endpoints = tuple(endpoint if e is before else e for e in spec.endpoints)
            self._bundles.write_spec(dataclasses.replace(spec, endpoints=endpoints))
            return before
