"""Specs of networks and containers for the tests of runtime.network."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from runtime.model.spec import (
    ContainerSpec,
    EndpointSpec,
    NetworkSpec,
    PortMapping,
    Process,
)
from runtime.model.subnets import gateway_for, mac_for


def network_spec(
    name: str, subnet: str, *, internal: bool = False, mtu: int = 1500, subnet6: str = ""
) -> NetworkSpec:
    return NetworkSpec(
        id=secrets.token_hex(32),
        name=name,
        subnet=subnet,
        gateway=gateway_for(subnet),
        subnet6=subnet6,
        gateway6=gateway_for(subnet6) if subnet6 else "",
        internal=internal,
        mtu=mtu,
    )


def endpoint(
    network: NetworkSpec, address: str, aliases: tuple[str, ...] = (), *, address6: str = ""
) -> EndpointSpec:
    return EndpointSpec(
        network_id=network.id,
        address=address,
        prefix_length=int(network.subnet.partition("/")[2]),
        gateway=network.gateway,
        mac_address=mac_for(address),
        aliases=aliases,
        address6=address6,
        prefix_length6=int(network.subnet6.partition("/")[2]) if address6 else 64,
        gateway6=network.gateway6 if address6 else "",
    )


def container_spec(
    name: str, endpoints: Iterable[EndpointSpec], ports: Iterable[PortMapping] = ()
) -> ContainerSpec:
    return ContainerSpec(
        id=secrets.token_hex(32),
        name=name,
        image="sha256:" + "0" * 64,
        image_reference="test",
        process=Process(args=("true",)),
        endpoints=tuple(endpoints),
        ports=tuple(ports),
    )
