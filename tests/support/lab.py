"""A simulated host with a neighbour on its LAN: network namespaces of a test's own, one of them the current one.

neighbour 192.0.2.99, 2001:db8:1::99 --- host 192.0.2.10, 2001:db8:1::10 --- bridges of networks --- containers

A lab has the addresses of one family on the LAN: those of `Lab` or those of `Lab6`.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pyroute2 import IPRoute

from runtime.model.spec import ContainerSpec, NetworkSpec, PortMapping
from runtime.network import NetworkManager
from runtime.store.paths import Config
from tests.support.netns import Machine, fresh_netns
from tests.support.networks import container_spec, endpoint, network_spec

HOST, HOST6 = "192.0.2.10", "2001:db8:1::10"
NEIGHBOUR, NEIGHBOUR6 = "192.0.2.99", "2001:db8:1::99"


@dataclass
class Lab:
    """The simulated host (the current namespace) and everything connected to it."""

    config: Config
    networks: NetworkManager
    neighbour: Machine
    machines: list[Machine] = field(default_factory=list)

    def network(self, name: str, subnet: str, *, internal: bool = False) -> NetworkSpec:
        spec = network_spec(name, subnet, internal=internal)
        self.networks.ensure(spec)
        return spec

    def start(self, spec: ContainerSpec) -> Machine:
        """Run a container as the engine does: attach, publish, register; then its init's part."""
        machine = Machine.start()
        self.machines.append(machine)
        for index, end in enumerate(spec.endpoints):
            self.networks.attach(spec, end, index, machine.pid)
            inner = self.networks.get(end.network_id).internal
            gateway = "" if index or inner else end.gateway
            machine.configure(f"eth{index}", end.address, end.prefix_length, gateway)
        self.networks.publish(spec)
        self.networks.register_names(spec)
        return machine

    def container(
        self, network: NetworkSpec, last: int, ports: tuple[PortMapping, ...] = ()
    ) -> tuple[Machine, ContainerSpec]:
        """A running container whose address ends in `last`."""
        address = network.subnet.partition("/")[0].rsplit(".", 1)[0] + f".{last}"
        spec = container_spec(f"c{last}", [endpoint(network, address)], ports)
        return self.start(spec), spec


@dataclass
class Lab6:
    """The same with IPv6."""

    config: Config
    networks: NetworkManager
    neighbour: Machine
    machines: list[Machine] = field(default_factory=list)

    def network(self, number: int, subnet6: str, *, internal: bool = False) -> NetworkSpec:
        subnet = f"172.30.{4 * number}.0/22"
        spec = network_spec(f"net{number}", subnet, internal=internal, subnet6=subnet6)
        self.networks.ensure(spec)
        return spec

    def container(
        self, network: NetworkSpec, last: int, ports: tuple[PortMapping, ...] = ()
    ) -> tuple[Machine, ContainerSpec]:
        """A running container whose addresses end in `last`."""
        address = network.subnet.partition("/")[0].rsplit(".", 1)[0] + f".{last}"
        address6 = network.subnet6.partition("/")[0] + str(last) if network.subnet6 else ""
        end = endpoint(network, address, address6=address6)
        spec = container_spec(f"c{last}", [end], ports)
        machine = Machine.start()
        self.machines.append(machine)
        self.networks.attach(spec, end, 0, machine.pid)
        machine.configure(
            "eth0", end.address, end.prefix_length, "" if network.internal else end.gateway
        )
        if address6:
            with machine.inside(), IPRoute() as netlink:
                index = netlink.link_lookup(ifname="eth0")[0]
                _add_address6(index, address6, netlink)
                if not network.internal:
                    netlink.route(
                        "add", family=socket.AF_INET6, dst="default", gateway=end.gateway6
                    )
        self.networks.publish(spec)
        return machine, spec


@contextmanager
def lab4(config: Config) -> Iterator[Lab]:
    with _neighbour() as neighbour:
        with IPRoute() as netlink:
            index = netlink.link_lookup(ifname="lan0")[0]
            netlink.addr("add", index=index, address=HOST, prefixlen=24)
            netlink.link("set", index=index, state="up")
        neighbour.configure("lan0", NEIGHBOUR, 24)
        made = Lab(config, NetworkManager(config), neighbour)
        with _ended(made):
            yield made


@contextmanager
def lab6(config: Config) -> Iterator[Lab6]:
    with _neighbour() as neighbour:
        _configure6(HOST6)
        with neighbour.inside():
            _configure6(NEIGHBOUR6)
        made = Lab6(config, NetworkManager(config), neighbour)
        with _ended(made):
            yield made


@contextmanager
def _neighbour() -> Iterator[Machine]:
    """In a namespace with an interface lan0, whose other end is the machine's."""
    with fresh_netns():
        neighbour = Machine.start()
        try:
            with IPRoute() as netlink:
                netlink.link(
                    "add", ifname="lan0", kind="veth",
                    peer={"ifname": "lan0", "net_ns_pid": neighbour.pid},
                )  # fmt: skip
            yield neighbour
        finally:
            neighbour.stop()


@contextmanager
def _ended(lab: Lab | Lab6) -> Iterator[None]:
    try:
        yield
    finally:
        lab.networks.close()
        for machine in lab.machines:
            machine.stop()


def _configure6(address: str) -> None:
    with IPRoute() as netlink:
        index = netlink.link_lookup(ifname="lan0")[0]
        netlink.link("set", index=index, state="up")
        _add_address6(index, address, netlink)


def _add_address6(index: int, address: str, netlink: IPRoute) -> None:
    netlink.addr(
        "add", index=index, family=socket.AF_INET6, address=address, prefixlen=64,
        flags=0x02,
    )  # fmt: skip
