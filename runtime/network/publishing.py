"""A container's published ports: elements of the firewall's maps, and the facts that say whose they are."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from runtime.errors import FirewallFailure, PortInUse
from runtime.kernel.conntrack import forget_udp_from, forget_udp_to_port
from runtime.model.spec import ContainerSpec, EndpointSpec, NetworkSpec
from runtime.network.facts import PortFacts, PortFiles
from runtime.network.firewall import Firewall
from runtime.network.links import Links
from runtime.network.ports import PublishedPort, ports_of

log = logging.getLogger(__name__)


class Published:
    """Not locked by itself: the manager holds the instance's network lock around every call."""

    def __init__(
        self,
        *,
        files: PortFiles,
        firewall: Firewall,
        links: Links,
        network: Callable[[str], NetworkSpec],  # by id; raises NotFound
        ifname: Callable[[str, str], str],  # of the host's end, by ids of container and network
        restore: Callable[[], object],  # the whole table
    ) -> None:
        self._files = files
        self._firewall = firewall
        self._links = links
        self._network = network
        self._ifname = ifname
        self._restore = restore

    def publish(self, spec: ContainerSpec) -> None:
        """Lead the host's ports to the container: one map element each, all or none.

        Through its first network that has a way out; an internal one's ports answer on the host only.
        Raises PortInUse when a running container has the port, Unsupported, FirewallFailure.
        """
        ports = self._ports_of(spec)
        self.unpublish(spec.id)
        self._files.write(spec.id, PortFacts(tuple(ports), self._links_of(spec)))
        try:
            self._add(ports)
        except BaseException:
            self._files.remove(spec.id)
            raise
        # Who sent before the port was there is tracked as talking to the host itself.
        for port in ports:
            if port.protocol == "udp":
                forget_udp_to_port(port.host_port, ipv6=":" in port.host_ip)

    def republish(self, spec: ContainerSpec) -> None:
        """As `publish`; ports that lead where they led stay as they are, without a network none answers."""
        if not spec.endpoints:
            self.unpublish(spec.id)
        elif self._files.read(spec.id).ports != (ports := tuple(self._ports_of(spec))):
            self.publish(spec)
        else:
            self._files.write(spec.id, PortFacts(ports, self._links_of(spec)))

    def unpublish(self, container_id: str) -> None:
        ports = self._files.read(container_id).ports
        if ports:
            self._firewall.unpublish(ports)
        for port in ports:
            if port.protocol == "udp":
                forget_udp_from(port.address, port.container_port)
        self._files.remove(container_id)

    # -- inner --------------------------------------------------------------------------------

    def _ports_of(self, spec: ContainerSpec) -> list[PublishedPort]:
        return ports_of(spec, *self._homes(spec))

    def _links_of(self, spec: ContainerSpec) -> tuple[str, ...]:
        return tuple(self._ifname(spec.id, endpoint.network_id) for endpoint in spec.endpoints)

    def _homes(self, spec: ContainerSpec) -> tuple[EndpointSpec, EndpointSpec | None]:
        """The endpoints that published ports lead to, for IPv4 and for IPv6: on a network with a way out
        where there is one."""
        # A stable sort: those with a way out first, each group in its order.
        ends = sorted(spec.endpoints, key=lambda end: self._network(end.network_id).internal)
        return ends[0], next((end for end in ends if end.address6), None)

    def _add(self, ports: Sequence[PublishedPort]) -> None:
        try:
            self._firewall.publish(ports)
        except FirewallFailure as error:
            reason = error.extra.get("reason")
            if reason == "exists":
                self._refuse_taken(ports)
                self._firewall.replace(ports)
            elif reason == "missing":
                # Somebody flushed the rules. The facts hold the new ports already.
                log.warning("The nftables table %s was gone; made it again.", self._firewall.table)
                self._restore()
            else:
                raise

    def _refuse_taken(self, ports: Sequence[PublishedPort]) -> None:
        """Raise PortInUse when one belongs to a container that is attached right now.

        A living container's shim holds its ports as sockets, so this is met only where nobody holds
        them; an element without its container is a leftover.
        """
        for port in ports:
            owner = self._firewall.owner(port)
            if owner in (None, "", port.container_id):
                continue
            if any(self._links.exists(link) for link in self._files.read(str(owner)).links):
                raise PortInUse(
                    f"Port {port.host_port}/{port.protocol} of the host is published by container"
                    f" {str(owner)[:12]}.",
                    hint="Choose another host port, or stop that container.",
                    host_port=port.host_port,
                    protocol=port.protocol,
                    container=owner,
                )
