"""Published ports as values: a host's address and port, the container behind it, and who owns it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

from runtime.errors import Unsupported
from runtime.model.spec import ContainerSpec, EndpointSpec, Protocol

ANY_ADDRESS = "0.0.0.0"


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """`host_ip:host_port/protocol -> address:container_port`, one element of an nftables map."""

    container_id: str  # 64 hex digits
    protocol: Protocol
    host_ip: str  # "0.0.0.0" = every address of the host
    host_port: int
    address: str  # the container's
    container_port: int

    @property
    def map(self) -> str:
        """The map that the element lives in."""
        return "ports" if self.host_ip == ANY_ADDRESS else "ports_at"

    @property
    def key(self) -> str:
        """As nft writes it: "tcp . 8080" or "tcp . 192.0.2.1 . 8080"."""
        middle = "" if self.host_ip == ANY_ADDRESS else f"{self.host_ip} . "
        return f"{self.protocol} . {middle}{self.host_port}"

    @property
    def value(self) -> str:
        return f"{self.address} . {self.container_port}"


def ports_of(spec: ContainerSpec, home: EndpointSpec) -> list[PublishedPort]:
    """The ports of `spec` as they lead to its address on `home`. Raises Unsupported for IPv6 addresses."""
    found = []
    for index, port in enumerate(spec.ports):
        host = ipaddress.ip_address(port.host_ip or ANY_ADDRESS)
        if host.version != 4:
            raise Unsupported(
                f"Publishing a port on the IPv6 address {host}",
                "networks with IPv6, which are not there yet",
                hint="Publish it on an IPv4 address, or on 0.0.0.0 for all of them.",
                field=f"ports[{index}].host_ip",
            )
        found.append(
            PublishedPort(
                container_id=spec.id,
                protocol=port.protocol,
                host_ip=str(host),
                host_port=port.host_port,
                address=str(ipaddress.IPv4Address(home.address)),
                container_port=port.container_port,
            )
        )
    return found


def from_element(element: list[Any]) -> PublishedPort:
    """A map element as `nft -j list map` shows it: [{"elem": {"val": …, "comment": id}}, value]."""
    key, value = element
    body = key.get("elem", {"val": key})
    parts = body["val"]["concat"]
    address, container_port = value["concat"]
    protocol = parts[0]
    return PublishedPort(
        container_id=body.get("comment", ""),
        protocol=protocol,
        host_ip=parts[1] if len(parts) == 3 else ANY_ADDRESS,
        host_port=int(parts[-1]),
        address=address,
        container_port=int(container_port),
    )
