"""Networks with IPv6, on a host of their own with a neighbour on its LAN (tests/support/lab.py)."""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Iterator

import pytest
from pyroute2 import IPRoute

from runtime.errors import Conflict, PortInUse, Unsupported
from runtime.kernel.nftables import Nftables
from runtime.model.spec import PortMapping
from runtime.model.subnets import mac_for
from runtime.network.sysctls import has_ipv6, read, write
from runtime.shim.ports import hold_ports
from runtime.store.paths import Config
from tests.support.lab import HOST6, NEIGHBOUR6, Lab6, lab6
from tests.support.netns import SILENCE, TIMEOUT, Machine, exchange, reaches
from tests.support.networks import container_spec, endpoint, network_spec
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(not has_ipv6(), reason="this kernel has no IPv6")

ONE, TWO = "fd00:0:0:1::/64", "fd00:0:0:2::/64"


@pytest.fixture
def lab(config: Config) -> Iterator[Lab6]:
    with lab6(config) as made:
        yield made


def listen(machine: Machine, port: int) -> socket.socket:
    with machine.inside():
        server = socket.create_server(("::", port), family=socket.AF_INET6)
    server.settimeout(TIMEOUT)
    machine.sockets.append(server)
    return server


def addresses_of(name: str) -> set[str]:
    with IPRoute() as netlink:
        index = netlink.link_lookup(ifname=name)[0]
        found = netlink.get_addr(family=socket.AF_INET6, index=index)
        return {f"{a.get_attr('IFA_ADDRESS')}/{a['prefixlen']}" for a in found}


def elements(lab: Lab6, name: str) -> list[object]:
    with Nftables() as nft:
        listed = nft.objects(f"list table inet {lab.config.nft_table}")
    return [
        element
        for item in listed
        for kind in ("set", "map")
        if (holder := item.get(kind)) and holder["name"] == name
        for element in holder.get("elem", ())
    ]


# -- networks ----------------------------------------------------------------------------------


def test_the_bridge_has_the_gateway_and_listens_to_nobody(lab: Lab6) -> None:
    network = lab.network(0, ONE)
    bridge = lab.config.bridge(network.id)
    assert addresses_of(bridge) == {"fd00:0:0:1::1/64", "fe80::1/64"}
    settings = {name: read(f"net.ipv6.conf.{bridge}.{name}") for name in ("accept_ra", "autoconf")}
    assert settings == {"accept_ra": "0", "autoconf": "0"}
    assert lab.networks.repair() is False  # what is there is what must be


def test_a_network_without_it_has_no_ipv6_at_all(lab: Lab6) -> None:
    network = lab.network(0, "")
    bridge = lab.config.bridge(network.id)
    assert addresses_of(bridge) == set()
    assert read(f"net.ipv6.conf.{bridge}.disable_ipv6") == "1"
    assert read("net.ipv6.conf.all.forwarding") == "0"
    assert elements(lab, "subnets6") == []


def test_the_host_goes_on_listening_to_its_routers(lab: Lab6) -> None:
    write("net.ipv6.conf.lan0.accept_ra", "1")
    lab.network(0, ONE)
    assert read("net.ipv6.conf.all.forwarding") == "1"
    assert read("net.ipv6.conf.lan0.accept_ra") == "2"
    changed = {change.name: change.before for change in lab.networks.sysctl_changes()}
    assert changed["net.ipv6.conf.lan0.accept_ra"] == "1"
    assert changed["net.ipv6.conf.all.forwarding"] == "0"


def test_an_interface_that_takes_no_advertisements_goes_on_taking_none(lab: Lab6) -> None:
    write("net.ipv6.conf.lan0.accept_ra", "0")
    lab.network(0, ONE)
    assert read("net.ipv6.conf.lan0.accept_ra") == "0"


def test_containers_on_one_network_reach_each_other(lab: Lab6) -> None:
    network = lab.network(0, ONE)
    server, _ = lab.container(network, 2)
    client, _ = lab.container(network, 3)
    listening = listen(server, 80)
    with client.inside():
        assert exchange(listening, "fd00:0:0:1::2", 80) == "fd00:0:0:1::3"


def test_networks_are_closed_to_each_other(lab: Lab6) -> None:
    server, _ = lab.container(lab.network(0, ONE), 2)
    client, _ = lab.container(lab.network(1, TWO), 2)
    listen(server, 80)
    with client.inside():
        assert not reaches("fd00:0:0:1::2", 80)


def test_a_container_reaches_other_machines_from_the_hosts_address(lab: Lab6) -> None:
    client, _ = lab.container(lab.network(0, ONE), 2)
    outside = listen(lab.neighbour, 80)
    with client.inside():
        assert exchange(outside, NEIGHBOUR6, 80) == HOST6


def test_an_internal_network_has_no_way_out(lab: Lab6) -> None:
    network = lab.network(0, ONE, internal=True)
    server, _ = lab.container(network, 2, (PortMapping(80, 8080, host_ip="::"),))
    listening = listen(server, 80)
    listen(lab.neighbour, 80)
    with server.inside(), IPRoute() as netlink:
        netlink.route("add", family=socket.AF_INET6, dst="default", gateway=network.gateway6)
        assert not reaches(NEIGHBOUR6, 80)
    with lab.neighbour.inside():
        assert not reaches(HOST6, 8080)
    assert exchange(listening, "::1", 8080) == network.gateway6


def test_a_neighbour_that_routes_into_the_subnet_finds_no_unpublished_port(lab: Lab6) -> None:
    server, _ = lab.container(lab.network(0, ONE), 2)
    listen(server, 80)
    with lab.neighbour.inside(), IPRoute() as netlink:
        netlink.route("add", family=socket.AF_INET6, dst=ONE, gateway=HOST6)
        assert not reaches("fd00:0:0:1::2", 80)


def test_a_subnet_that_is_in_use_is_refused(lab: Lab6) -> None:
    lab.network(0, ONE)
    other = network_spec("other", "172.30.4.0/22", subnet6="fd00:0:0:1:8000::/65")
    with pytest.raises(Conflict) as caught:
        lab.networks.ensure(other)
    assert caught.value.extra["field"] == "subnet6"
    hosts = network_spec("hosts", "172.30.4.0/22", subnet6="2001:db8:1::/64")
    with pytest.raises(Conflict) as caught:
        lab.networks.ensure(hosts)
    assert caught.value.extra["routes"] == ["2001:db8:1::/64"]


def test_a_kernel_without_it_says_so(lab: Lab6, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.network.sysctls.has_ipv6", lambda: False)
    monkeypatch.setattr("runtime.network.firewall.has_ipv6", lambda: False)
    with pytest.raises(Unsupported) as caught:
        lab.network(0, ONE)
    assert caught.value.extra["field"] == "ipv6"
    assert lab.networks.list() == []
    client, _ = lab.container(lab.network(1, ""), 2)  # the rest works
    assert client.pid


def test_what_is_flushed_comes_back(lab: Lab6) -> None:
    network = lab.network(0, ONE)
    server, _ = lab.container(network, 2, (PortMapping(80, 8080, host_ip="::1"),))
    listening = listen(server, 80)
    with Nftables() as nft:
        nft.run(f"flush map inet {lab.config.nft_table} loops6\n")
    with IPRoute() as netlink:
        index = netlink.link_lookup(ifname=lab.config.bridge(network.id))[0]
        netlink.flush_addr(family=socket.AF_INET6, index=index)
    assert lab.networks.repair() is True
    assert exchange(listening, "::1", 8080) == network.gateway6
    assert lab.networks.repair() is False


def test_removal_leaves_nothing(lab: Lab6) -> None:
    network = lab.network(0, ONE)
    machine, spec = lab.container(network, 2, (PortMapping(80, 8080, host_ip="::"),))
    lab.networks.unpublish(spec.id)
    lab.networks.detach(spec.id, network.id)
    lab.networks.remove(network.id)
    for name in ("bridges", "pairs", "gateways6", "outgoing6", "subnets6", "ports6", "loops6"):
        assert elements(lab, name) == [], name
    with IPRoute() as netlink:
        routes = netlink.get_routes(family=socket.AF_INET6)
        assert not [r for r in routes if str(r.get_attr("RTA_DST")).startswith("fd00")]
    assert machine.process.poll() is None


# -- published ports ---------------------------------------------------------------------------


def test_a_port_on_every_address_is_reached_from_everywhere(lab: Lab6) -> None:
    network = lab.network(0, ONE)
    server, spec = lab.container(network, 2, (PortMapping(80, 8080, host_ip="::"),))
    listening = listen(server, 80)
    with lab.neighbour.inside():
        assert exchange(listening, HOST6, 8080) == NEIGHBOUR6
    assert exchange(listening, "::1", 8080) == network.gateway6
    assert exchange(listening, HOST6, 8080)
    with server.inside():  # through the host, and back to itself
        assert exchange(listening, HOST6, 8080) == network.gateway6
    assert {p.host_ip for p in lab.networks.published()} == {"::"}
    lab.networks.unpublish(spec.id)
    assert lab.networks.published() == set()
    assert not reaches("::1", 8080)


def test_a_port_on_the_loopback_address_is_the_hosts_alone(lab: Lab6) -> None:
    network = lab.network(0, ONE)
    server, _ = lab.container(network, 2, (PortMapping(80, 8080, host_ip="::1"),))
    listening = listen(server, 80)
    assert exchange(listening, "::1", 8080) == network.gateway6
    assert not reaches(HOST6, 8080)
    with lab.neighbour.inside():
        assert not reaches(HOST6, 8080)


def test_udp_on_the_loopback_address_answers(lab: Lab6) -> None:
    port = PortMapping(53, 5353, "udp", host_ip="::1")
    server, _ = lab.container(lab.network(0, ONE), 2, (port,))
    with server.inside():
        inner = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    inner.bind(("::", 53))
    inner.settimeout(TIMEOUT)
    with inner, socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.settimeout(TIMEOUT)
        client.connect(("::1", 5353))
        client.send(b"question")
        data, peer = inner.recvfrom(64)
        assert data == b"question"
        inner.sendto(b"answer", peer)
        assert client.recv(64) == b"answer"


def test_a_udp_sender_that_does_not_stop_follows_the_port(lab: Lab6) -> None:
    network = lab.network(0, ONE)
    ports = (PortMapping(514, 5140, "udp", host_ip="::"),)
    with lab.neighbour.inside():
        sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with sender:
        sender.sendto(b"nobody is there", (HOST6, 5140))
        for last in (2, 3):
            machine, spec = lab.container(network, last, ports)
            with machine.inside():
                bound = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            with bound:
                bound.settimeout(TIMEOUT)
                bound.bind(("::", 514))
                sender.sendto(f"to {last}".encode(), (HOST6, 5140))
                assert bound.recv(64) == f"to {last}".encode()
            lab.networks.unpublish(spec.id)


def test_other_ports_of_the_loopback_address_stay_the_hosts_own(lab: Lab6) -> None:
    lab.container(lab.network(0, ONE), 2, (PortMapping(80, 8080, host_ip="::"),))
    with socket.create_server(("::1", 9090), family=socket.AF_INET6) as own:
        own.settimeout(TIMEOUT)
        assert exchange(own, "::1", 9090) == "::1"


def test_one_port_of_both_families_and_two_containers(lab: Lab6) -> None:
    network = lab.network(0, ONE)
    four, _ = lab.container(network, 2, (PortMapping(80, 8080),))
    six, _ = lab.container(network, 3, (PortMapping(80, 8080, host_ip="::"),))
    listening4, listening6 = four.listen(80), listen(six, 80)
    assert exchange(listening4, "127.0.0.1", 8080)
    assert exchange(listening6, "::1", 8080)


def test_a_port_of_ipv6_without_a_network_with_it_is_refused(lab: Lab6) -> None:
    network = lab.network(0, "")
    spec = container_spec(
        "four", [endpoint(network, "172.30.0.2")], [PortMapping(80, 8080, host_ip="::")]
    )
    with pytest.raises(Unsupported) as caught:
        lab.networks.publish(spec)
    assert caught.value.extra["field"] == "ports[0].host_ip"


def test_held_ports_of_both_families_stand_beside_each_other(lab: Lab6) -> None:
    four = {"protocol": "tcp", "host_ip": "0.0.0.0", "host_port": 8080}
    six = {"protocol": "tcp", "host_ip": "::", "host_port": 8080}
    held = hold_ports([four, six])  # type: ignore[list-item]
    assert len(held) == 2
    with pytest.raises(PortInUse, match=r"\[::1\]:8080/tcp"):
        hold_ports([{"protocol": "tcp", "host_ip": "::1", "host_port": 8080}])
    for one in held:
        one.close()


# -- what a container with raw sockets may try --------------------------------------------------


def frame(bridge_mac: str, source: str, target: str, protocol: int, payload: bytes) -> bytes:
    """An Ethernet frame with an IPv6 packet; hop limit 255, as neighbour discovery wants it."""
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target)
    packed = ends + struct.pack("!II", len(payload), protocol)
    total = sum(struct.unpack(f"!{(len(packed) + len(payload)) // 2}H", packed + payload))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    # The checksum's place: byte 2 of ICMPv6, byte 6 of UDP.
    place = 2 if protocol == socket.IPPROTO_ICMPV6 else 6
    payload = payload[:place] + struct.pack("!H", ~total & 0xFFFF) + payload[place + 2 :]
    header = struct.pack("!IHBB", 6 << 28, len(payload), protocol, 255) + ends
    macs = bytes.fromhex(bridge_mac.replace(":", "")) + b"\x02\0\0\0\0\x09"
    return macs + struct.pack("!H", 0x86DD) + header + payload


def send_frame(machine: Machine, content: bytes) -> None:
    with machine.inside(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("eth0", 0))
        raw.send(content)


@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize(
    ("source", "target"), [("fd00:0:0:1::2", "::1"), ("::1", "fd00:0:0:1::1"), ("::1", "::1")]
)
def test_the_hosts_loopback_is_closed_to_forged_packets(
    lab: Lab6, source: str, target: str, published: bool
) -> None:
    """The rule that brings answers to [::1] must bring nothing else there."""
    network = lab.network(0, ONE)
    ports = (PortMapping(53, 6379, "udp", host_ip="::1"),) if published else ()
    machine, _ = lab.container(network, 2, ports)
    mac = mac_for(network.gateway)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as service:
        service.bind(("::1", 6379))
        service.settimeout(SILENCE)
        datagram = struct.pack("!HHHH", 53, 6379, 8 + 4, 0) + b"evil"
        send_frame(machine, frame(mac, source, target, socket.IPPROTO_UDP, datagram))
        with pytest.raises(TimeoutError):
            service.recv(64)
    # The same frame with honest addresses arrives: it is well made.
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as service:
        service.bind(("::", 6380))
        service.settimeout(TIMEOUT)
        datagram = struct.pack("!HHHH", 53, 6380, 8 + 4, 0) + b"good"
        honest = frame(mac, "fd00:0:0:1::2", network.gateway6, socket.IPPROTO_UDP, datagram)
        send_frame(machine, honest)
        assert service.recv(64) == b"good"


@pytest.mark.parametrize("subnet6", [ONE, ""], ids=["with IPv6", "without"])
def test_a_container_cannot_make_itself_the_hosts_router(lab: Lab6, subnet6: str) -> None:
    """CVE-2020-13401: router advertisements out of a container led the host's traffic to it."""
    write("net.ipv6.conf.lan0.accept_ra", "1")
    network = lab.network(0, subnet6)
    machine, _ = lab.container(network, 2)
    prefix = socket.inet_pton(socket.AF_INET6, "fd66::")
    advertisement = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
    advertisement += struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0) + prefix
    mac = "33:33:00:00:00:01"
    packet = frame(mac, "fe80::9", "ff02::1", socket.IPPROTO_ICMPV6, advertisement)
    send_frame(machine, packet)
    # What comes through a link that listens is taken: the packet is well made.
    with lab.neighbour.inside(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("lan0", 0))
        raw.send(packet)
    wait_until(lambda: "default" in routes6(), what="the router on the LAN")
    lines = [line for line in routes6().splitlines() if "default" in line]
    assert all("lan0" in line for line in lines), lines
    assert not [a for a in addresses_of(lab.config.bridge(network.id)) if a.startswith("fd66")]


def routes6() -> str:
    return subprocess.run(["ip", "-6", "route"], check=True, capture_output=True, text=True).stdout
