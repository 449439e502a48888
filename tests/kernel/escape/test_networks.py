"""The host's own services, sockets and routes, and other networks, from inside a container's network.

- CVE-2020-15257 (containerd): abstract unix sockets of the shims were there for containers with the host's network.
- CVE-2020-8558 (Kubernetes): route_localnet, which ports on 127.0.0.1 need, opened the host's loopback.
- CVE-2020-13401 (Docker): a router advertisement of a container's made it the router of the host and of others.
- CVE-2023-28840 and CVE-2025-54388 (Docker): rules that did not hold for a network, so that it was not closed.

Here: a network namespace of its own; sockets of the platform have paths, none an abstract name; one nftables table
(`runtime/network/ruleset.py`) drops what comes from a bridge to 127.0.0.0/8 and forwards nothing
between networks; bridges and interfaces take no router advertisements and redirects (`runtime/network/sysctls.py`,
`_prepare_ipv6` in `runtime/kernel/rtnetlink.py`; forged ones are tried in tests/kernel/test_network_ipv6.py).

Not defended: containers on the same network may pass for each other with NET_RAW, which is given by default as in
Docker (ARP, addresses of one's own making): drop it where neighbours are not trusted, or use a network for each.
What the host serves on 0.0.0.0 is there for containers as it is for every machine beside it. A container with the
host's network is on the host's network.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from runtime.model.spec import Namespaces, NetworkSpec, PortMapping
from tests.support.elf import RESULT, program, supported
from tests.support.engine import Instance, free_port
from tests.support.escape import Kind, box, image, says, tried
from tests.support.options import Seen
from tests.support.waiting import PATIENCE, wait_until

NAME = "\0slipway-test-abstract"


@pytest.fixture(scope="module")
def network(instance: Instance) -> NetworkSpec:
    return instance.network()


@pytest.fixture(scope="module")
def seen(instance: Instance, network: NetworkSpec, userns: Kind) -> Seen:
    return box(instance, userns=userns, network=network)


@pytest.fixture(scope="module")
def loopback() -> Iterator[int]:
    """Port of a service of the host's on 127.0.0.1 alone."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def connects(seen: Seen, address: str, port: int) -> bool:
    return says(seen, f"nc -w 1 {address} {port} < /dev/null && echo connected") == "connected"


# -- the host ------------------------------------------------------------------------------------


def test_loopback_of_the_host_is_out_of_reach(
    seen: Seen, network: NetworkSpec, loopback: int
) -> None:
    with socket.create_connection(("127.0.0.1", loopback), timeout=PATIENCE):
        pass  # it is there
    for address in ("127.0.0.1", "127.0.0.53", network.gateway, "localhost"):
        assert not connects(seen, address, loopback), address
    assert "not permitted" in says(seen, "ip route add 127.0.0.1/32 via " + network.gateway)


def test_not_even_with_routes_of_its_own(
    instance: Instance, network: NetworkSpec, userns: Kind, loopback: int
) -> None:
    """CVE-2020-8558, as whoever may administer the container's network."""
    seen = box(instance, network=network, userns=userns, security={"cap_add": ("NET_ADMIN",)})
    script = f"ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.1/32 via {network.gateway}"
    says(seen, script)
    assert network.gateway in says(seen, "ip route get 127.0.0.1; ip route")
    assert not connects(seen, "127.0.0.1", loopback)


def forged(source: str, target: str, port: int) -> bytes:
    """A program that sends a datagram under a false source address."""
    payload = b"forged"
    udp = struct.pack(">HHHH", 1234, port, 8 + len(payload), 0) + payload
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    packet = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0) + ends + udp
    where = struct.pack("=H", socket.AF_INET) + struct.pack(">H", port) + socket.inet_aton(target)
    return program(
        ("socket", socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW),
        ("sendto", RESULT, packet, len(packet), 0, where + bytes(8), 16),
    )


@pytest.mark.skipif(not supported, reason="the attack is made of x86-64 code")
def test_nobody_passes_for_the_host_s_loopback(instance: Instance) -> None:
    """With services that trust 127.0.0.1, on a port that all may reach: to the kernel that is a lie."""
    network = instance.network()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service:
        service.bind(("0.0.0.0", 0))
        service.settimeout(0.3)
        port = service.getsockname()[1]
        own = instance.endpoint(network)
        programs = {
            "attack/loopback": forged("127.0.0.1", network.gateway, port),
            "attack/own": forged(own.address, network.gateway, port),
        }
        evil = image(instance, programs)
        seen = box(instance, image=evil, network=network, endpoints=(own,))
        assert says(seen, "/attack/own; echo $?") == "0"
        service.settimeout(5 * PATIENCE)
        assert service.recvfrom(64) == (b"forged", (own.address, 1234)), "it proves nothing"
        assert says(seen, "/attack/loopback; echo $?") == "0"
        service.settimeout(0.3)
        with pytest.raises(TimeoutError):
            service.recvfrom(64)


def test_abstract_sockets_of_the_host_are_not_there(seen: Seen) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(NAME)
        server.listen()
        assert "@slipway-test-abstract" in Path("/proc/net/unix").read_text()
        assert "@" not in tried(seen, "cat", "/proc/net/unix")


def links(pid: int) -> Iterator[str]:
    """What the descriptors of a process lead to; some come and go, as do short-lived processes themselves."""
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except FileNotFoundError:
        return
    for fd in descriptors:
        with suppress(OSError):
            yield os.readlink(f"/proc/{pid}/fd/{fd}")


def test_the_platform_has_no_abstract_sockets(instance: Instance, userns: Kind) -> None:
    """CVE-2020-15257: with the host's network all of them are there for a container."""
    shared = box(instance, userns="host", namespaces=Namespaces(network="host"))
    box(instance, userns=userns)
    assert instance.launcher is not None
    pids = [instance.launcher.pid, os.getpid(), *instance.processes("shims")]
    found = {pid: set(links(pid)) for pid in pids}
    # The launcher, this process and one monitor for each container are there to be seen.
    assert sum(any(link.startswith("socket:") for link in of) for of in found.values()) >= 4
    inodes = set().union(*found.values())
    lines = [line.split() for line in tried(shared, "cat", "/proc/net/unix").splitlines()[1:]]
    abstract = {f"socket:[{words[6]}]" for words in lines if words[-1].startswith("@")}
    assert not inodes & abstract
    # Those with a path lie where nobody inside comes to.
    assert says(shared, f"ls {instance.config.run}").endswith("No such file or directory")


# -- other networks ------------------------------------------------------------------------------


def test_networks_are_closed_to_each_other(
    instance: Instance, seen: Seen, network: NetworkSpec, userns: Kind
) -> None:
    other = instance.network()
    script = "while true; do nc -l -p 7777 < /dev/null; done"
    far = box(instance, script, userns=userns, network=other)
    near = box(instance, script, userns=userns, network=network)
    addresses = [one.spec.endpoints[0].address for one in (near, far)]
    wait_until(lambda: connects(seen, addresses[0], 7777), what="the neighbour, who is let in")
    assert not connects(seen, addresses[1], 7777)
    # The other network's gateway is the host, but not the way in.
    assert "100% packet loss" in says(seen, f"ping -c 1 -W 1 {addresses[1]}")
    assert "not permitted" in says(seen, f"ip route add {other.subnet} via {network.gateway}")


def test_an_internal_network_leads_nowhere(instance: Instance, network: NetworkSpec) -> None:
    inner = instance.network(internal=True)
    script = "while true; do nc -l -p 7777 < /dev/null; done"
    target = box(instance, script, network=network, ports=(PortMapping(7777, free_port()),))
    seen = box(instance, network=inner, security={"cap_add": ("NET_ADMIN",)})
    assert "default" not in says(seen, "ip route")
    says(seen, f"ip route add default via {inner.gateway}")
    assert not connects(seen, target.spec.endpoints[0].address, 7777)


def test_addresses_routes_and_the_firewall_are_not_the_container_s_to_change(seen: Seen) -> None:
    for command in (
        "ip addr add 10.255.255.1/24 dev eth0",
        "ip link set eth0 address 02:00:00:00:00:01",
        "ip link add bridge0 type bridge",
        "ip route del default",
        "ip link set eth0 down",
    ):
        assert "not permitted" in says(seen, command), command


@pytest.mark.skipif(not supported, reason="the attack is made of x86-64 code")
def test_without_net_raw_nothing_is_forged(instance: Instance, network: NetworkSpec) -> None:
    programs = {
        "attack/ip": program(("socket", socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)),
        "attack/arp": program(("socket", socket.AF_PACKET, socket.SOCK_RAW, 0x0608)),
        "attack/icmp6": program(("socket", socket.AF_INET6, socket.SOCK_RAW, 58)),
    }
    evil = image(instance, programs)
    script = "for n in ip arp icmp6; do /attack/$n; echo $?; done"
    with_it = box(instance, image=evil, network=network)
    assert says(with_it, script).split() == ["0", "0", "0"]
    without = box(instance, image=evil, network=network, security={"cap_drop": ("NET_RAW",)})
    assert says(without, script).split() == ["1", "1", "1"]


# -- routers -------------------------------------------------------------------------------------


def setting(path: str) -> str:
    file = Path("/proc/sys/net") / path
    return file.read_text().strip() if file.exists() else "absent"


def test_the_host_takes_no_routes_from_containers(
    instance: Instance, network: NetworkSpec, seen: Seen
) -> None:
    bridge = instance.config.bridge(network.id)
    port = instance.engine.networks.ifname(seen.spec.id, network.id)
    assert setting(f"ipv4/conf/{bridge}/accept_redirects") == "0"
    for name in (bridge, port):
        assert setting(f"ipv6/conf/{name}/disable_ipv6") in ("1", "absent"), name


def test_a_container_takes_no_routes_from_its_neighbours(seen: Seen) -> None:
    told = says(seen, "cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6")
    assert told == "1" or "No such file" in told
    assert "inet6" not in says(seen, "ip addr show eth0")
    # Its loopback is its own.
    assert "::1" in says(seen, "ip addr show lo")


def test_who_wants_ipv6_on_the_link_says_so(
    instance: Instance, network: NetworkSpec, userns: Kind
) -> None:
    if setting("ipv6/conf/all/disable_ipv6") == "absent":
        pytest.skip("this kernel has no IPv6")
    sysctls = {"net.ipv6.conf.eth0.disable_ipv6": "0"}
    seen = box(instance, network=network, userns=userns, security={"sysctls": sysctls})
    wait_until(lambda: "fe80::" in says(seen, "ip addr show eth0"), what="a link-local address")
