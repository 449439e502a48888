"""Choosing subnets, addresses and MAC addresses: pure arithmetic, standard library only.

The database reserves what is chosen here under unique constraints; the runtime refuses a subnet that
the host already uses. Every function is deterministic: the lowest free one wins.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from socket import AF_INET6, inet_aton, inet_pton

from runtime.errors import Conflict, SpecInvalid


@dataclass(frozen=True, slots=True)
class Pool:
    """A range that networks are cut from, `prefix_length` bits each."""

    range: str  # "172.30.0.0/15"
    prefix_length: int


# A bridge has at most 1,023 ports (BR_MAX_PORTS in net/bridge/br_private.h), so a /22 is as much as one
# network can use. 172.17.0.0/16 and upwards is where Docker starts, 10.88.0.0/16 is podman's.
DEFAULT_POOLS = (Pool("172.30.0.0/15", 22), Pool("10.201.0.0/16", 22))


def next_subnet(taken: Iterable[str], pools: Sequence[Pool] = DEFAULT_POOLS) -> str:
    """The lowest subnet of `pools` that overlaps none of `taken` ("172.30.0.0/22" or any size).

    IPv6 subnets in `taken` are ignored. Raises Conflict when every pool is used up, SpecInvalid when
    an element of `taken` is not a subnet.
    """
    spans = sorted(_span(text) for text in taken if ":" not in text)
    for pool in pools:
        whole = ipaddress.IPv4Network(pool.range)
        size = 1 << (32 - pool.prefix_length)
        start = int(whole.network_address)
        end = int(whole.broadcast_address)
        for first, last in spans:
            if last < start:
                continue
            if first > start + size - 1:
                break  # the gap before this one is wide enough
            start = (last // size + 1) * size
        if start + size - 1 <= end:
            return f"{ipaddress.IPv4Address(start)}/{pool.prefix_length}"
    raise Conflict(
        "No free subnet is left for a new network.",
        hint="Remove a network that is not used, or give the subnet yourself.",
    )


def next_address(subnet: str, taken: Iterable[str]) -> str:
    """The lowest host address of `subnet` that is not in `taken`; give the gateway in `taken`.

    Raises Conflict when the subnet is full, SpecInvalid when `subnet` is none.
    """
    first, last = _span(subnet)
    # inet_aton is ten times as quick as an IPv4Address, and a network has up to a thousand of them.
    used = {int.from_bytes(inet_aton(address), "big") for address in taken if ":" not in address}
    for number in range(first + 1, last):  # network and broadcast address are no host's
        if number not in used:
            return str(ipaddress.IPv4Address(number))
    raise Conflict(
        f"Every address of {subnet} is taken.",
        hint="Remove containers of this network, or use another network.",
        subnet=subnet,
    )


def gateway_for(subnet: str) -> str:
    """The first host address of `subnet`, by convention the bridge's own."""
    return next_address(subnet, ()) if ":" not in subnet else next_address6(subnet, ())


def subnet6_for(network_id: str, taken: Iterable[str]) -> str:
    """A unique local /64 (RFC 4193) out of the network's id, 64 hex digits: "fd3a:52…::/64".

    The first one that overlaps none of `taken`, whose IPv4 subnets are ignored. Raises Conflict.
    """
    others = [text for text in taken if ":" in text]
    for start in range(len(network_id) - 13):
        packed = bytes.fromhex("fd" + network_id[start : start + 14]) + bytes(8)
        subnet = f"{ipaddress.IPv6Address(packed)}/64"
        if not overlapping(subnet, others):
            return subnet
    raise Conflict(
        "No free IPv6 subnet was found for the network.", hint="Give the subnet yourself."
    )


def next_address6(subnet: str, taken: Iterable[str]) -> str:
    """The lowest host address of the IPv6 `subnet` that is not in `taken`; give the gateway in `taken`.

    Raises Conflict when the subnet is full, SpecInvalid when `subnet` is none.
    """
    first, last = _span(subnet)
    used = {int.from_bytes(inet_pton(AF_INET6, a), "big") for a in taken if ":" in a}
    # The first address is every router's (RFC 4291, 2.6.1); there is no broadcast address.
    for number in range(first + 1, last + 1):
        if number not in used:
            return str(ipaddress.IPv6Address(number))
    raise Conflict(
        f"Every address of {subnet} is taken.",
        hint="Remove containers of this network, or use another network.",
        subnet=subnet,
    )


def moved_addresses(
    addresses: Sequence[str], before: str, after: str, gateway: str
) -> dict[str, str]:
    """For each address in the subnet `before` one in `after`: at the same place, else the lowest free one.

    Raises Conflict when there are too many.

    >>> moved_addresses(["172.30.0.9"], "172.30.0.0/22", "10.201.4.0/24", "10.201.4.1")
    {'172.30.0.9': '10.201.4.9'}
    """
    if not addresses:
        return {}
    (start, _), (first, last) = _span(before), _span(after)
    end = last + (":" in after)  # only IPv4 has a broadcast address
    moved, taken = {}, {gateway}
    for address in addresses:
        number = first + int(ipaddress.ip_address(address)) - start
        if first < number < end:
            place = str(ipaddress.ip_address(after.partition("/")[0]) + (number - first))
            if place not in taken:
                moved[address] = place
                taken.add(place)
    following = next_address6 if ":" in after else next_address
    for address in addresses:
        if address not in moved:
            moved[address] = following(after, taken)
            taken.add(moved[address])
    return moved


def shortest(text: str) -> str:
    """An address or a subnet as the kernel and its tools write it; what is neither stays as it is."""
    try:
        return str(ipaddress.ip_network(text) if "/" in text else ipaddress.ip_address(text))
    except ValueError:
        return text


def mac_for(address: str) -> str:
    """A locally administered unicast MAC that holds the IPv4 `address`: "02:42:ac:1e:00:05".

    Unique on a bridge as long as addresses are, and the same after a restart, so that neighbours'
    ARP entries stay right.
    """
    packed = ipaddress.IPv4Address(address).packed
    return "02:42:" + ":".join(f"{byte:02x}" for byte in packed)


def overlapping(subnet: str, others: Iterable[str]) -> list[str]:
    """Those of `others`, of its address family, that share an address with `subnet`, in their order."""
    first, last = _span(subnet)
    found = []
    for other in others:
        if (":" in other) != (":" in subnet):
            continue
        start, end = _span(other)
        if start <= last and first <= end:
            found.append(other)
    return found


def _span(subnet: str) -> tuple[int, int]:
    """First and last address as numbers."""
    try:
        network = ipaddress.ip_network(subnet, strict=False)
    except ValueError:
        six = ":" in subnet
        raise SpecInvalid(
            "subnet6" if six else "subnet",
            f"{subnet!r} is not an {'IPv6' if six else 'IPv4'} subnet.",
            hint="Write the first address and the prefix length:"
            f" {'fd00:0:0:1::/64' if six else '172.30.0.0/16'}.",
        ) from None
    return int(network.network_address), int(network.broadcast_address)
