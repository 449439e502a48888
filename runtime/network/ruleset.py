"""The text of our nftables table: static rules that look everything up in sets and maps.

Nothing here grows with the number of containers: a network is an element in a few sets, a published
port one element of one map. The table is of this instance alone; no rule goes into another table.

`accept` and `return` end only our own chain: a packet then still meets every other table's chain of the
same hook, so the host's own firewall has the last word on published ports and on forwarding. `drop` is
final, and used only on packets that come from or go to our bridges.

Sources: nft(8); https://wiki.nftables.org (netfilter hooks, concatenations, maps).
"""

from __future__ import annotations

CHAINS = ("guard", "publish", "publish_locally", "leave", "forward")
CHAINS6 = ("loop", "loop_back")

# What each set holds, for those who read `nft list table`.
#   bridges    names of our bridges
#   internal   bridges of networks without a way out
#   pairs      bridge . the same bridge, to tell traffic that stays on one network
#   gateways   addresses of our bridges, where the resolver answers
#   outgoing   subnets that may leave the host
#   subnets    bridge . its subnet
#   ports      protocol . host port -> container, on every local address (0.0.0.0)
#   ports_at   protocol . host address . host port -> container
#   …6         the same for IPv6; there are none where the kernel has no IPv6
#   loops6     protocol . host port -> gateway of the container's network, for ports that answer on ::1
_TABLE = """
add table inet {table}
add set inet {table} bridges {{ type ifname; }}
add set inet {table} internal {{ type ifname; }}
add set inet {table} pairs {{ type ifname . ifname; }}
add set inet {table} gateways {{ type ipv4_addr; }}
add set inet {table} outgoing {{ type ipv4_addr; flags interval; }}
add set inet {table} subnets {{ type ifname . ipv4_addr; flags interval; }}
add map inet {table} ports {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}
add map inet {table} ports_at {{ type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service; }}
add chain inet {table} guard {{ type filter hook prerouting priority raw; policy accept; }}
add chain inet {table} publish {{ type nat hook prerouting priority dstnat; policy accept; }}
add chain inet {table} publish_locally {{ type nat hook output priority -100; policy accept; }}
add chain inet {table} leave {{ type nat hook postrouting priority srcnat; policy accept; }}
add chain inet {table} forward {{ type filter hook forward priority filter; policy accept; }}
"""

_TABLE6 = """
add set inet {table} gateways6 {{ type ifname . ipv6_addr; }}
add set inet {table} outgoing6 {{ type ipv6_addr; flags interval; }}
add set inet {table} subnets6 {{ type ifname . ipv6_addr; flags interval; }}
add map inet {table} ports6 {{ type inet_proto . inet_service : ipv6_addr . inet_service; }}
add map inet {table} ports6_at {{ type inet_proto . ipv6_addr . inet_service : ipv6_addr . inet_service; }}
add map inet {table} loops6 {{ type inet_proto . inet_service : ipv6_addr; }}
add chain inet {table} loop {{ type filter hook output priority raw; policy accept; }}
add chain inet {table} loop_back {{ type filter hook input priority 110; policy accept; }}
"""

# route_localnet, which lets 127.0.0.1 reach a published port, would also let a container with raw
# sockets reach what the host serves on 127.0.0.1 alone. Answers to the host's own connections still
# carry the bridge's address at this priority, before connection tracking.
_GUARD = """
add rule inet {table} guard iifname @bridges ip daddr 127.0.0.0/8 drop
"""

# The resolver's port on a gateway stays the resolver's, even when a container publishes 53 everywhere.
_PUBLISH = """
add rule inet {table} {chain} meta l4proto {{ tcp, udp }} ip daddr @gateways th dport 53 return
add rule inet {table} {chain} fib daddr type local dnat ip to meta l4proto . ip daddr . th dport map @ports_at
add rule inet {table} {chain} fib daddr type local dnat ip to meta l4proto . th dport map @ports
"""

_PUBLISH6 = """
add rule inet {table} {chain} fib daddr type local dnat ip6 to meta l4proto . ip6 daddr . th dport map @ports6_at
add rule inet {table} {chain} fib daddr type local dnat ip6 to meta l4proto . th dport map @ports6
"""

# IPv6 has no route_localnet: an answer that is translated back to ::1 before the host routes it is lost.
# So the host's own connections to a published port of ::1 leave, before connection tracking, from the
# gateway's address, and what comes back becomes ::1 again when it has arrived. No packet from a bridge
# can have ::1 as its source by itself, the kernel drops it; and it has to be the answer to a published port.
_LOOP6 = """
add rule inet {table} loop ip6 saddr ::1 ip6 daddr ::1 ip6 saddr set meta l4proto . th dport map @loops6
add rule inet {table} loop_back iifname . ip6 daddr @gateways6 ip6 saddr ::1 ct direction reply ct status dnat ip6 daddr set ::1
add rule inet {table} leave ct status dnat oifname . ip6 saddr @subnets6 masquerade
add rule inet {table} leave ip6 saddr @outgoing6 oifname != @bridges oifname != "lo" masquerade
"""

# 1. What the host sends from 127.0.0.1 to a container needs an address that the container can answer.
# 2. A container that reaches a neighbour, or itself, through a published port must get the answer from
#    the address it asked, so it has to come back through the host.
# 3. A container without a way out has no route back to the host's other addresses.
# 4. Container addresses mean nothing outside the host. (What the host says to its own gateway addresses
#    leaves by lo, and keeps its address.)
_LEAVE = """
add rule inet {table} leave ip saddr 127.0.0.0/8 oifname @bridges masquerade
add rule inet {table} leave ct status dnat oifname . ip saddr @subnets masquerade
add rule inet {table} leave ct status dnat oifname @internal masquerade
add rule inet {table} leave ip saddr @outgoing oifname != @bridges oifname != "lo" masquerade
"""

# Into a network comes what was asked for, what stays on it (bridged frames pass here when br_netfilter
# is loaded) and what a published port lets in; so networks are closed to each other, and a neighbour of
# the host that routes into a subnet finds no unpublished port.
_FORWARD = """
add rule inet {table} forward iifname . oifname @pairs accept
add rule inet {table} forward iifname @internal drop
add rule inet {table} forward oifname @internal drop
add rule inet {table} forward oifname @bridges ct state established,related accept
add rule inet {table} forward oifname @bridges ct status dnat accept
add rule inet {table} forward oifname @bridges drop
"""


def base_script(table: str, *, ipv6: bool) -> str:
    """A script that makes the table, or brings its chains to this state and keeps its elements."""
    chains = CHAINS + CHAINS6 if ipv6 else CHAINS
    flushes = "".join(f"flush chain inet {table} {chain}\n" for chain in chains)
    rules = "".join(
        (
            _GUARD.format(table=table),
            _PUBLISH.format(table=table, chain="publish"),
            _PUBLISH.format(table=table, chain="publish_locally"),
            _LEAVE.format(table=table),
            _FORWARD.format(table=table),
        )
    )
    if not ipv6:
        return _TABLE.format(table=table) + flushes + rules
    rules += _PUBLISH6.format(table=table, chain="publish")
    rules += _PUBLISH6.format(table=table, chain="publish_locally")
    rules += _LOOP6.format(table=table)
    return (_TABLE + _TABLE6).format(table=table) + flushes + rules


def network_elements(
    table: str,
    *,
    bridge: str,
    subnet: str,
    gateway: str,
    internal: bool,
    subnet6: str = "",
    gateway6: str = "",
) -> list[str]:
    """The elements of one network, each as "inet <table> <set> { … }" for add or delete."""
    elements = {
        "bridges": f'"{bridge}"',
        "pairs": f'"{bridge}" . "{bridge}"',
        "gateways": gateway,
        "subnets": f'"{bridge}" . {subnet}',
    }
    if internal:
        elements["internal"] = f'"{bridge}"'
    else:
        elements["outgoing"] = subnet
    if subnet6:
        elements["gateways6"] = f'"{bridge}" . {gateway6}'
        elements["subnets6"] = f'"{bridge}" . {subnet6}'
        if not internal:
            elements["outgoing6"] = subnet6
    return [f"inet {table} {name} {{ {element} }}" for name, element in elements.items()]
