"""Subnets that cannot be had: another network's, or what the host uses for something else."""

from __future__ import annotations

import ipaddress
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

from runtime.errors import Conflict
from runtime.model.spec import NetworkSpec
from runtime.model.subnets import overlapping
from runtime.network import sysctls
from runtime.network.links import Links
from runtime.network.upstreams import system_nameservers

_COMMANDS = {"subnet": "ip route", "subnet6": "ip -6 route"}


@dataclass(frozen=True, slots=True)
class Use:
    """What the host uses a subnet for; `connected` when the interface `by` has an address in it.

    `by` is "" for a name server, whose address is the subnet.
    """

    subnet: str
    by: str
    connected: bool = False

    def __str__(self) -> str:
        return f"{self.subnet} ({self.by or 'a name server'})"


def host_uses(links: Links, ours: Container[str], *, ipv6: bool) -> list[Use]:
    """Of one family, without what leads to the bridges in `ours`; nothing where the kernel lacks it."""
    if ipv6 and not sysctls.has_ipv6():
        return []
    routes = links.routes(ipv6=ipv6)
    found = [Use(r.destination, r.interface, r.connected) for r in routes]
    servers = [a.partition("%")[0] for a in system_nameservers() if (":" in a) == ipv6]
    named = [
        Use(f"{a}/{128 if ipv6 else 32}", "") for a in servers if not a.lower().startswith("fe80")
    ]
    return [use for use in found if use.by not in ours] + named


def refuse_clash(spec: NetworkSpec, known: Iterable[NetworkSpec], used: Sequence[Use]) -> None:
    """Raise Conflict, with the field, when a subnet of `spec` overlaps one of the networks in `known`
    or one that the host uses, of whichever family.
    """
    others = [other for other in known if other.id != spec.id]
    for field, command in _COMMANDS.items():
        subnet: str = getattr(spec, field)
        if not subnet:
            continue
        for other in others:
            theirs: str = getattr(other, field)
            if theirs and overlapping(subnet, [theirs]):
                raise Conflict(
                    f"Subnet {subnet} overlaps {theirs} of network {other.name}.",
                    hint="Choose another subnet.",
                    field=field,
                )
        clashes = [use for use in used if overlapping(subnet, [use.subnet])]
        if clashes:
            raise Conflict(
                f"Subnet {subnet} is in use on this host: {', '.join(map(str, clashes))}.",
                hint=f"Choose another subnet; `{command}` lists what the host reaches.",
                field=field,
                routes=[use.subnet for use in clashes],
            )


def refuse_taken(spec: NetworkSpec, used: Sequence[Use]) -> None:
    """Raise Conflict when an interface has taken a subnet of a network that exists while its bridge was away.

    A wider route that merely leads somewhere (a company's 10.0.0.0/8) takes nothing: the bridge's is more precise,
    and both may have been there before. Nor does a name server, which may be one of the network's containers.
    """
    for field in _COMMANDS:
        subnet: str = getattr(spec, field)
        if taken := [use for use in used if subnet and _takes(use, subnet)]:
            whose = ", ".join(map(str, taken))
            raise Conflict(
                f"Network {spec.name} cannot be brought up: its subnet {subnet} is in use on this host by {whose}.",
                hint=f"Give the network another subnet (Networks, or POST /api/v1/networks/{spec.name}/move),"
                f" or take {taken[0].by} down and start again.",
                network=spec.id,
                subnet=subnet,
                routes=[use.subnet for use in taken],
                interfaces=[use.by for use in taken],
            )


def _takes(use: Use, subnet: str) -> bool:
    if not use.by or not overlapping(subnet, [use.subnet]):
        return False
    wide = ipaddress.ip_network(use.subnet).prefixlen < ipaddress.ip_network(subnet).prefixlen
    return use.connected or not wide
