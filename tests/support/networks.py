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


def network_spec(name: str, subnet: str, *, internal: bool = False, mtu: int = 1500) -> NetworkSpec:
    return NetworkSpec(
        id=secrets.token_hex(32),
        name=name,
        subnet=subnet,
        gateway=gateway_for(subnet),
        internal=internal,
        mtu=mtu,
    )


def endpoint(network: NetworkSpec, address: str, aliases: tuple[str, ...] = ()) -> EndpointSpec:
    return EndpointSpec(
        network_id=network.id,
        address=address,
        prefix_length=int(network.subnet.partition("/")[2]),
        gateway=network.gateway,
        mac_address=mac_for(address),
        aliases=aliases,
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
