"""Chosen subnets and addresses never overlap what is taken, and the lowest free one wins."""

from __future__ import annotations

import ipaddress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import Conflict, SpecInvalid
from runtime.model.subnets import (
    DEFAULT_POOLS,
    Pool,
    gateway_for,
    mac_for,
    next_address,
    next_address6,
    next_subnet,
    overlapping,
    subnet6_for,
)

SMALL = (Pool("10.9.0.0/24", 28),)


def _networks(low: int = 20, high: int = 32) -> st.SearchStrategy[str]:
    """Subnets in and around 10.9.0.0/24."""
    number = st.integers(
        int(ipaddress.ip_address("10.8.255.0")), int(ipaddress.ip_address("10.9.1.255"))
    )
    return st.builds(
        lambda n, prefix: str(ipaddress.IPv4Network((n, prefix), strict=False)),
        number,
        st.integers(low, high),
    )


@given(st.lists(_networks(), max_size=30))
def test_a_new_subnet_is_the_lowest_that_overlaps_none(taken: list[str]) -> None:
    free = [
        str(candidate)
        for candidate in ipaddress.IPv4Network("10.9.0.0/24").subnets(new_prefix=28)
        if not any(candidate.overlaps(ipaddress.IPv4Network(t)) for t in taken)
    ]
    if free:
        assert next_subnet(taken, SMALL) == free[0]
    else:
        with pytest.raises(Conflict):
            next_subnet(taken, SMALL)


def test_one_subnet_after_another_until_the_pools_are_used_up() -> None:
    taken: list[str] = []
    for _ in range(128 + 64):
        taken.append(next_subnet(taken))
    with pytest.raises(Conflict):
        next_subnet(taken)
    networks = sorted(ipaddress.IPv4Network(t) for t in taken)
    assert all(not a.overlaps(b) for a, b in pairwise(networks))
    assert taken[0] == "172.30.0.0/22"
    assert DEFAULT_POOLS[0].prefix_length == 22


@given(st.sets(st.integers(1, 14)))
def test_the_lowest_free_address_is_given(used: set[int]) -> None:
    taken = [f"10.9.0.{n}" for n in used]
    free = sorted(set(range(1, 15)) - used)
    if free:
        assert next_address("10.9.0.0/28", taken) == f"10.9.0.{free[0]}"
    else:
        with pytest.raises(Conflict) as caught:
            next_address("10.9.0.0/28", taken)
        assert caught.value.extra["subnet"] == "10.9.0.0/28"


@given(st.ip_addresses(v=4), st.ip_addresses(v=4))
def test_macs_are_unicast_local_and_differ_with_the_address(
    one: ipaddress.IPv4Address, two: ipaddress.IPv4Address
) -> None:
    first = int(mac_for(str(one))[:2], 16)
    assert first & 0b11 == 0b10
    assert (mac_for(str(one)) == mac_for(str(two))) == (one == two)


@given(_networks(), st.lists(_networks(), max_size=10))
def test_overlapping_names_exactly_those_that_share_an_address(
    subnet: str, others: list[str]
) -> None:
    network = ipaddress.IPv4Network(subnet)
    expected = [o for o in others if network.overlaps(ipaddress.IPv4Network(o))]
    assert overlapping(subnet, others) == expected


def test_the_gateway_is_the_first_address() -> None:
    assert gateway_for("172.30.4.0/22") == "172.30.4.1"
    assert mac_for("172.30.0.5") == "02:42:ac:1e:00:05"


def test_ipv6_is_left_alone_and_nonsense_is_refused() -> None:
    assert next_subnet(["fd00::/64"]) == "172.30.0.0/22"
    with pytest.raises(SpecInvalid):
        next_subnet(["172.30.0.0/40"])


def test_an_ipv6_subnet_is_made_from_the_networks_id() -> None:
    network = "0123456789abcdef" * 4
    assert subnet6_for(network, ()) == "fd01:2345:6789:abcd::/64"
    assert subnet6_for(network, ["172.30.0.0/22", "fd01:2345::/32"]) == "fd12:3456:789a:bcde::/64"
    with pytest.raises(Conflict):
        subnet6_for(network, ["fd00::/8"])


def test_ipv6_addresses_go_upwards_from_the_gateway() -> None:
    assert gateway_for("fd00::/64") == "fd00::1"
    assert next_address6("fd00::/64", ["fd00::1", "fd00:0::2", "172.30.0.1"]) == "fd00::3"
    assert next_address6("fd00::/126", ["fd00::1", "fd00::2"]) == "fd00::3"  # no broadcast address
    with pytest.raises(Conflict):
        next_address6("fd00::/126", ["fd00::1", "fd00::2", "fd00::3"])


def test_families_do_not_overlap() -> None:
    assert overlapping("fd00::/64", ["172.30.0.0/22", "fd00::8000:0/97", "fd01::/64"]) == [
        "fd00::8000:0/97"
    ]
    assert overlapping("172.30.0.0/22", ["fd00::/64", "::/0"]) == []
