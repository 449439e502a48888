"""What the rest of the runtime does with networks: make one, attach a container, publish its ports.

Facts survive on disk: networks in `config.networks` (what must exist), published ports in
`config.ports` (who holds which element). `repair` makes the kernel agree with them again after a
reboot, or after somebody flushed the firewall.
"""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from runtime.errors import (
    Conflict,
    EngineError,
    NetworkInUse,
    NotFound,
    error_context,
)
from runtime.kernel.veth import Namespace
from runtime.model.spec import ContainerSpec, EndpointSpec, NetworkSpec
from runtime.model.subnets import mac_for
from runtime.network import names, sysctls
from runtime.network.clashes import Use, host_uses, refuse_clash, refuse_taken
from runtime.network.facts import NetworkFiles, PortFiles
from runtime.network.firewall import Firewall
from runtime.network.links import LinkCounters, Links
from runtime.network.ports import PublishedPort
from runtime.network.publishing import Published
from runtime.network.taking_back import take_back
from runtime.store.locks import locked
from runtime.store.paths import Config

log = logging.getLogger(__name__)
# Who forwards asks for neighbours from an address of the link. One for all: it means nothing elsewhere.
LINK_LOCAL = ("fe80::1", 64)
_FAREWELL = 2.0  # seconds for the kernel to take the interfaces of a container that has ended


class NetworkManager:
    """Networks of one instance, in the network namespace this object was made in.

    Thread-safe, and safe beside other processes of the instance. Close it when done.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._links = Links()
        self._firewall = Firewall(config)
        self._sysctls = sysctls.Sysctls(config)
        self._networks = NetworkFiles(config)
        self._ports = PortFiles(config)
        self._published = Published(
            files=self._ports,
            firewall=self._firewall,
            links=self._links,
            network=self.get,
            ifname=self.ifname,
            restore=self._restore_firewall,
        )
        self._thread_lock = threading.RLock()
        self._complained: dict[str, str] = {}  # why a network cannot be repaired, by its id

    def close(self) -> None:
        self._firewall.close()
        self._links.close()

    def warm_up(self) -> None:
        """Load what the first change needs (0.15 s), for a process that is going to make changes."""
        self._links.warm_up()

    # -- networks -----------------------------------------------------------------------------

    def ensure(self, spec: NetworkSpec) -> None:
        """Make sure that the network's bridge, rules and facts are there; quick when they are.

        Raises Conflict when its subnet is in use on this host, NetlinkFailure, FirewallFailure,
        KernelFailure.
        """
        if self._complete(spec):
            return
        with self._locked():
            self._make(spec)

    def _make(self, spec: NetworkSpec) -> None:
        known = {network.id: network for network in self.list()}
        before = known.get(spec.id)
        if before is not None and not _same_wiring(before, spec):
            raise Conflict(
                f"Network {spec.name} exists with other settings.",
                hint="Remove it first, then create it again.",
                network=spec.id,
            )
        if not self._links.exists(self._config.bridge(spec.id)):
            if before is None:
                refuse_clash(spec, known.values(), self._host_uses(spec))
            else:
                refuse_taken(spec, self._host_uses(spec))
        try:
            self._networks.write(spec)
            self._raise_bridge(spec)
            names.write_network(self._config, spec)
            self._restore_firewall()
        except BaseException:
            if before is None:
                self._take_back(spec)
            raise

    def _take_back(self, spec: NetworkSpec) -> None:
        """Nothing of a network that could not be made stays; each part is tried, whatever fails."""
        bridge = self._config.bridge(spec.id)
        steps: list[Callable[[], object]] = [
            partial(self._networks.remove, spec.id),
            partial(self._links.delete, bridge),
            partial(names.remove_network, self._config, spec.id),
            partial(self._firewall.remove_network, spec),
        ]
        take_back(steps, spec.name)

    def remove(self, network_id: str) -> None:
        """Remove everything of the network; none is no error. Raises NetworkInUse, NetlinkFailure …"""
        bridge = self._config.bridge(network_id)
        with self._locked():
            self._refuse_attached(network_id)
            self._links.delete(bridge)
            spec = self._networks.read(network_id)
            if spec is not None:
                self._firewall.remove_network(spec)
            names.remove_network(self._config, network_id)
            self._networks.remove(network_id)

    def move(self, spec: NetworkSpec) -> None:
        """Give the network the subnets of `spec`, while nothing is attached to it; nothing happens when it has them.

        Raises NetworkInUse, Conflict when one is in use, NetlinkFailure, FirewallFailure, KernelFailure: it then has
        what it had, as far as that can be brought up.
        """
        with self._locked():
            before = self._networks.read(spec.id)
            if before is None or _same_wiring(before, spec):
                self._make(spec)
                return
            self._refuse_attached(spec.id)
            refuse_clash(spec, self.list(), self._host_uses(spec))
            try:
                self._rewrite(before, spec)
                self._make(spec)
            except BaseException:
                take_back([partial(self._rewrite, spec, before)], spec.name)
                raise

    def put_back(self, spec: NetworkSpec) -> None:
        """Have the network be as `spec` says after a move that was cut short; `repair` brings it up."""
        with self._locked():
            now = self._networks.read(spec.id)
            if now is not None and not _same_wiring(now, spec):
                self._rewrite(now, spec)

    def _rewrite(self, before: NetworkSpec, after: NetworkSpec) -> None:
        """Take down what is there of one, and note the other."""
        self._firewall.remove_network(before)
        self._links.delete(self._config.bridge(before.id))
        names.write_network(self._config, after)
        self._networks.write(after)

    def _refuse_attached(self, network_id: str) -> None:
        if attached := self._attached(network_id):
            raise NetworkInUse(
                f"{len(attached)} running containers use the network.",
                hint="Stop them, or disconnect them from it.",
                network=network_id,
                interfaces=list(attached),
            )

    def _attached(self, network_id: str) -> Sequence[str]:
        """Interfaces on the bridge. Those of a container that has just ended are given a moment to go."""
        deadline = time.monotonic() + _FAREWELL
        while True:
            attached = self._links.ports_of_bridge(self._config.bridge(network_id))
            in_use = names.registered(self._config, network_id)
            if not attached or in_use or time.monotonic() >= deadline:
                return attached
            time.sleep(0.02)

    def list(self) -> Sequence[NetworkSpec]:
        """Every network that must exist on this host, as `ensure` was told."""
        return self._networks.read_all()

    def repair(self) -> bool:
        """Make kernel and facts agree. Costs microseconds when nobody changed any rule meanwhile.

        Returns whether something had to be put right. A network that cannot be made is logged and
        does not keep the others from it. Raises FirewallFailure.
        """
        with self._locked():
            raised = False
            networks = self.list()
            if networks:
                self._sysctls.require_forwarding()
            if any(spec.gateway6 for spec in networks) and sysctls.has_ipv6():
                self._sysctls.require_forwarding6()
            for spec in networks:
                if self._bridge_complete(spec):
                    self._complained.pop(spec.id, None)
                    continue
                try:
                    if not self._links.exists(self._config.bridge(spec.id)):
                        refuse_taken(spec, self._host_uses(spec))
                    self._raise_bridge(spec)
                    names.write_network(self._config, spec)
                    raised = True
                except EngineError as error:
                    self._complain(spec, error)
            if self._firewall.unchanged and not raised:
                return False
            return self._restore_firewall() or raised

    def _complain(self, spec: NetworkSpec, error: EngineError) -> None:
        """Once: it is found again every few seconds."""
        if self._complained.get(spec.id) != error.message:
            self._complained[spec.id] = error.message
            log.error("Network %s cannot be repaired: %s %s", spec.name, error, error.hint)

    def clean(self) -> None:
        """Take this instance's rules and bridges out of the kernel; the facts on disk stay.

        For a host that Slipway leaves: containers that still run lose their networks.
        """
        with self._locked():
            for spec in self.list():
                self._links.delete(self._config.bridge(spec.id))
            self._firewall.remove_table()

    def host_subnets(self) -> Sequence[str]:
        """Subnets that the host uses for something else, to choose a free one for a network."""
        return [use.subnet for use in host_uses(self._links, self._bridges(), ipv6=False)]

    def host_subnets6(self) -> Sequence[str]:
        """The same for IPv6; nothing where the kernel has none."""
        return [use.subnet for use in host_uses(self._links, self._bridges(), ipv6=True)]

    def _host_uses(self, spec: NetworkSpec) -> Sequence[Use]:
        """Of the families that the network has."""
        ours = self._bridges()
        six = host_uses(self._links, ours, ipv6=True) if spec.subnet6 else []
        return [*host_uses(self._links, ours, ipv6=False), *six]

    def _bridges(self) -> set[str]:
        return {self._config.bridge(network.id) for network in self.list()}

    def sysctl_changes(self) -> Sequence[sysctls.SysctlChange]:
        """Host-wide kernel settings changed for containers, with their former values."""
        return self._sysctls.changes()

    def blocking_chains(self) -> Sequence[str]:
        """Firewall chains of others that drop forwarded packets by policy ("family table chain")."""
        return self._firewall.forward_policies()

    # -- endpoints ----------------------------------------------------------------------------

    def ifname(self, container_id: str, network_id: str) -> str:
        """The host's end of the container's veth on that network; the same at every start."""
        digest = hashlib.sha256(f"{container_id}:{network_id}".encode()).hexdigest()
        return self._config.veth(digest)

    def attach(self, spec: ContainerSpec, endpoint: EndpointSpec, index: int, pid: int) -> str:
        """Connect the network namespace of `pid` to the endpoint's network, as `eth<index>` there.

        The other side is left to the container's init: address, route, bringing it up. Returns the
        name of the host's interface. Raises NotFound when the network was never ensured,
        NetlinkFailure.
        """
        return self._wire(spec, endpoint, f"eth{index}", Namespace(pid=pid))

    def plug(self, spec: ContainerSpec, endpoint: EndpointSpec, name: str, netns: int) -> int:
        """As `attach`, into the network namespace behind the descriptor `netns`; the interface is `name` there.

        Returns its index there.
        """
        return self._links.peer_index(self._wire(spec, endpoint, name, Namespace(fd=netns)))

    def plugged(self, container_id: str, network_id: str) -> int:
        """Index of the endpoint's interface in the container; 0 when there is none."""
        return self._links.peer_index(self.ifname(container_id, network_id))

    def _wire(
        self, spec: ContainerSpec, endpoint: EndpointSpec, peer: str, where: Namespace
    ) -> str:
        network = self.get(endpoint.network_id)
        name = self.ifname(spec.id, endpoint.network_id)
        bridge = self._config.bridge(endpoint.network_id)
        if not self._links.exists(bridge):
            self.ensure(network)
        self._links.create_veth(
            name,
            bridge=bridge,
            peer=peer,
            where=where,
            peer_mac=endpoint.mac_address,
            mtu=network.mtu,
            hairpin=sysctls.bridge_netfilter(),
        )
        sysctls.quiet_ipv6(name)
        return name

    def detach(self, container_id: str, network_id: str) -> None:
        """Remove the endpoint's interfaces; gone ones are no error (they go with the container)."""
        self._links.delete(self.ifname(container_id, network_id))

    def counters(self, ifname: str) -> LinkCounters | None:
        """The container's traffic through one endpoint; None when it is not attached."""
        return self._links.counters(ifname)

    def get(self, network_id: str) -> NetworkSpec:
        """The network as `ensure` was told. Raises NotFound."""
        spec = self._networks.read(network_id)
        if spec is None:
            raise NotFound(
                f"Network {network_id[:12]} does not exist on this host.", network=network_id
            )
        return spec

    # -- published ports ----------------------------------------------------------------------

    def publish(self, spec: ContainerSpec) -> None:
        """Lead the host's ports to the container; see `Published.publish`."""
        if spec.ports and spec.endpoints:
            with self._locked():
                self._published.publish(spec)

    def republish(self, spec: ContainerSpec) -> None:
        """As `publish`, after its networks have changed; ports that lead where they led stay as they are."""
        if spec.ports:
            with self._locked():
                self._published.republish(spec)

    def unpublish(self, container_id: str) -> None:
        """Remove what `publish` added for the container; nothing there is no error."""
        if self._ports.exists(container_id):
            with self._locked():
                self._published.unpublish(container_id)

    def published(self) -> set[PublishedPort]:
        """Every published port, as the kernel has it. Raises FirewallFailure."""
        return self._firewall.published()

    # -- names --------------------------------------------------------------------------------

    def register_names(self, spec: ContainerSpec) -> None:
        """Let the container be found by name on its networks."""
        names.register(self._config, spec)

    def unregister_names(self, container_id: str, network_id: str = "") -> None:
        """Forget its names, on all networks or on one; none is no error."""
        names.unregister(self._config, container_id, network_id)

    # -- inner --------------------------------------------------------------------------------

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._thread_lock, error_context("network"):
            with locked(self._config.locks / "network.lock"):
                yield

    def _complete(self, spec: NetworkSpec) -> bool:
        if not self._bridge_complete(spec) or self._networks.read(spec.id) != spec:
            return False
        # Somebody may have changed some rule of the host, most often this instance's other process. Whether our
        # table is there shows in constant time; that its rules and elements are whole, `repair` checks.
        return self._firewall.present

    def _bridge_complete(self, spec: NetworkSpec) -> bool:
        bridge = self._config.bridge(spec.id)
        return (
            self._links.bridge_ready(bridge, spec.gateway)
            and (not spec.gateway6 or self._links.has_address6(bridge, spec.gateway6))
            and names.network_known(self._config, spec.id)
        )

    def _raise_bridge(self, spec: NetworkSpec) -> None:
        bridge = self._config.bridge(spec.id)
        self._sysctls.require_forwarding()
        if spec.gateway6:
            self._sysctls.require_forwarding6()
        made = self._links.create_bridge(bridge, mac=mac_for(spec.gateway), mtu=spec.mtu)
        try:
            sysctls.prepare_bridge(bridge, ipv6=bool(spec.gateway6))
            prefix = ipaddress.ip_network(spec.subnet).prefixlen
            self._links.configure_bridge(
                bridge, gateway=spec.gateway, prefix_length=prefix, mtu=spec.mtu
            )
            if spec.gateway6:
                prefix6 = ipaddress.ip_network(spec.subnet6).prefixlen
                self._links.add_addresses6(bridge, (spec.gateway6, prefix6), LINK_LOCAL)
        except BaseException:
            if made:
                self._links.delete(bridge)
            raise

    def _restore_firewall(self) -> bool:
        return self._firewall.restore(self.list(), self._ports.read_all())


def _same_wiring(one: NetworkSpec, other: NetworkSpec) -> bool:
    """Whether both are the same in the kernel; a name or labels may differ."""
    return dataclasses.replace(one, name=other.name, labels=other.labels) == other
