"""Published ports as values: a host's address and port, the container behind it, and who owns it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

from runtime.errors import Unsupported
from runtime.model.spec import ContainerSpec, EndpointSpec, Protocol

ANY_ADDRESS = "0.0.0.0"
ANY_ADDRESS6 = "::"
MAPS = ("ports", "ports_at", "ports6", "ports6_at")
LOOPS = "loops6"
# nft shows a protocol by its number where /etc/protocols does not name it, as on a minimal Debian.
_NUMBERS: dict[int, Protocol] = {6: "tcp", 17: "udp", 132: "sctp"}


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """`host_ip:host_port/protocol -> address:container_port`, one element of an nftables map."""

    container_id: str  # 64 hex digits
    protocol: Protocol
    host_ip: str  # "0.0.0.0" = every IPv4 address of the host, "::" = every IPv6 address
    host_port: int
    address: str  # the container's
    container_port: int
    # Where the host's connections to [::1] come from: the gateway of the network. "" = [::1] has no such port.
    loop: str = ""

    @property
    def map(self) -> str:
        """The map that the element lives in."""
        name = "ports6" if ":" in self.host_ip else "ports"
        return name if self._everywhere else f"{name}_at"

    @property
    def _everywhere(self) -> bool:
        return self.host_ip in (ANY_ADDRESS, ANY_ADDRESS6)

    @property
    def key(self) -> str:
        """As nft writes it: "tcp . 8080" or "tcp . 192.0.2.1 . 8080"."""
        middle = "" if self._everywhere else f"{self.host_ip} . "
        return f"{self.protocol} . {middle}{self.host_port}"

    @property
    def loop_key(self) -> str:
        return f"{self.protocol} . {self.host_port}"

    @property
    def value(self) -> str:
        return f"{self.address} . {self.container_port}"


def ports_of(
    spec: ContainerSpec, home: EndpointSpec, home6: EndpointSpec | None
) -> list[PublishedPort]:
    """The ports of `spec` as they lead to its address on `home`, those of IPv6 on `home6`.

    Raises Unsupported for a port on an IPv6 address when there is no `home6`.
    """
    found = []
    for index, port in enumerate(spec.ports):
        host = ipaddress.ip_address(port.host_ip or ANY_ADDRESS)
        six = host.version == 6
        if six and home6 is None:
            raise Unsupported(
                f"Publishing a port on the IPv6 address {host}",
                "a network with IPv6",
                hint="Choose a network with IPv6, or publish it on an IPv4 address.",
                field=f"ports[{index}].host_ip",
            )
        address = home6.address6 if six and home6 is not None else home.address
        local = six and (host.is_loopback or host.is_unspecified)
        found.append(
            PublishedPort(
                container_id=spec.id,
                protocol=port.protocol,
                host_ip=str(host),
                host_port=port.host_port,
                address=str(ipaddress.ip_address(address)),
                container_port=port.container_port,
                loop=home6.gateway6 if local and home6 is not None else "",
            )
        )
    return found


def from_element(element: list[Any], loops: dict[tuple[str, int], str]) -> PublishedPort:
    """A map element as `nft -j list map` shows it: [{"elem": {"val": …, "comment": id}}, value].

    `loops` are the elements of that map, by protocol and host port.
    """
    key, value = element
    body = key.get("elem", {"val": key})
    parts = body["val"]["concat"]
    address, container_port = value["concat"]
    protocol = _protocol(parts[0])
    everywhere = ANY_ADDRESS6 if ":" in address else ANY_ADDRESS
    host_ip = parts[1] if len(parts) == 3 else everywhere
    return PublishedPort(
        container_id=body.get("comment", ""),
        protocol=protocol,
        host_ip=host_ip,
        host_port=int(parts[-1]),
        address=address,
        container_port=int(container_port),
        loop=loops.get((protocol, int(parts[-1])), "") if host_ip in ("::", "::1") else "",
    )


def loops_of(elements: list[Any]) -> dict[tuple[str, int], str]:
    """The elements of the map of ports that answer on [::1], as `nft -j` shows them."""
    found: dict[tuple[str, int], str] = {}
    for key, gateway in elements:
        protocol, port = key.get("elem", {"val": key})["val"]["concat"]
        found[_protocol(protocol), int(port)] = gateway
    return found


def _protocol(shown: Any) -> Protocol:
    name: Protocol = _NUMBERS.get(shown, shown)
    return name
