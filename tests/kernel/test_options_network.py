"""Options of the network: links, routes, resolver files and nftables as the kernel has them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.errors import SpecInvalid, Unsupported
from runtime.model.parse_ports import parse_ports
from tests.support.engine import Instance, free_port
from tests.support.options import Seen, asked, started
from tests.support.resolver import lookup, resolver
from tests.support.waiting import PATIENCE, wait_until


@pytest.fixture
def instance() -> Iterator[Instance]:
    with Instance() as made:
        yield made


def interfaces(seen: Seen) -> list[str]:
    lines = seen.proc("net/dev").splitlines()[2:]
    return sorted(line.partition(":")[0].strip() for line in lines)


def published(instance: Instance) -> set[tuple[str, str, int, str, int]]:
    """The elements of the table's maps, as netlink lists them."""
    return {
        (p.protocol, p.host_ip, p.host_port, p.address, p.container_port)
        for p in instance.engine.networks.published()
    }


def test_the_hosts_network(instance: Instance) -> None:
    seen = started(instance, network="host")
    assert seen.namespace("net") == os.readlink("/proc/self/ns/net")


def test_no_network(instance: Instance) -> None:
    seen = started(instance, network="none")
    assert seen.namespace("net") != os.readlink("/proc/self/ns/net")
    assert interfaces(seen) == ["lo"]


def test_the_network_of_another_container(instance: Instance) -> None:
    first = started(instance, on=instance.network(), hostname="one", extra_hosts={"db": "10.0.0.5"})
    second = started(instance, network=f"container:{first.spec.id}")
    assert second.namespace("net") == first.namespace("net")
    assert second.namespace("uts") != first.namespace("uts")
    for name in ("/etc/hosts", "/etc/resolv.conf"):
        assert second.run("cat", name) == first.run("cat", name)
    assert "10.0.0.5\tdb" in second.run("cat", "/etc/hosts")


def test_address_mac_and_aliases(instance: Instance) -> None:
    network = instance.network()
    address = network.gateway.rpartition(".")[0] + ".77"
    seen = started(
        instance, on=network, ip=address, mac_address="02:00:00:00:00:77",
        network_aliases=["sql", "db.internal"],
    )  # fmt: skip
    shown = seen.run("ip", "addr", "show", "eth0")
    assert f"inet {address}/24" in shown
    assert "link/ether 02:00:00:00:00:77" in shown
    with resolver(instance):
        other = started(instance, on=network)
        for name in ("sql", "db.internal", seen.spec.name):
            wait_until(lambda n=name: address in lookup(other, n), what=name)  # type: ignore[misc]
        # As it runs, a new name takes the place of the old one.
        instance.engine.rename(seen.spec.id, "renamed")
        wait_until(lambda: address in lookup(other, "renamed"))
        assert address not in lookup(other, seen.spec.name)
        assert address in lookup(other, "sql")


def test_several_networks_are_joined_and_their_names_found(instance: Instance) -> None:
    front, back = instance.network(), instance.network(internal=True)
    both = started(instance, on=front, also=(back,))
    assert interfaces(both) == ["eth0", "eth1", "lo"]
    assert f"inet {both.spec.endpoints[1].address}/24" in both.run("ip", "addr", "show", "eth1")
    assert both.run("ip", "route").count("default") == 1
    one, other = started(instance, on=front), started(instance, on=back)
    for seen in (one, other):
        both.run("ping", "-c", "1", "-W", "3", seen.spec.endpoints[0].address)
    with resolver(instance):
        for seen in (one, other):
            name, address = seen.spec.name, seen.spec.endpoints[0].address
            wait_until(lambda n=name, a=address: a in lookup(both, n), what=name)  # type: ignore[misc]
        assert both.spec.endpoints[1].address in lookup(other, both.spec.name)
        assert one.spec.endpoints[0].address not in lookup(other, one.spec.name)


def test_link_local_addresses_stand_beside_its_own(instance: Instance) -> None:
    network = instance.network()
    one = started(instance, on=network, link_local_ips=["169.254.7.1", "fe80::7:1"])
    shown = one.run("ip", "addr", "show", "eth0")
    for address in (one.spec.endpoints[0].address + "/24", "169.254.7.1/16", "fe80::7:1/64"):
        assert f"{address} " in shown
    assert "default" in one.run("ip", "route")
    other = started(instance, on=network, link_local_ips=["169.254.7.2", "fe80::7:2"])
    for address in ("169.254.7.1", "fe80::7:1%eth0"):
        other.run("ping", "-c", "1", "-W", "3", address)
    assert one.run("cat", "/proc/sys/net/ipv6/conf/eth0/accept_ra") == "0"


def test_a_dns_server_of_its_own_is_asked_for_all_but_containers(instance: Instance) -> None:
    network = instance.network()
    server = started(instance, on=network)
    with _answering(server), resolver(instance):
        seen = started(instance, on=network, dns=[server.spec.endpoints[0].address])
        wait_until(lambda: "192.0.2.7" in lookup(seen, "elsewhere.example"))
        assert server.spec.endpoints[0].address in lookup(seen, server.spec.name)
        inner = instance.network(internal=True)
        shut = started(instance, on=inner, dns=[server.spec.endpoints[0].address])
        wait_until(lambda: shut.spec.endpoints[0].address in lookup(shut, shut.spec.name))
        assert "192.0.2.7" not in lookup(shut, "elsewhere.example")


_SERVER = """
import socket, sys
import dns.message, dns.rrset
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("0.0.0.0", 53))
print("ready", flush=True)
while True:
    data, client = server.recvfrom(4096)
    reply = dns.message.make_response(dns.message.from_wire(data))
    name = reply.question[0].name
    if reply.question[0].rdtype == 1:
        reply.answer.append(dns.rrset.from_text(name, 60, "IN", "A", "192.0.2.7"))
    server.sendto(reply.to_wire(), client)
"""


@contextmanager
def _answering(seen: Seen) -> Iterator[None]:
    """A name server in the container's network, to which every name is 192.0.2.7."""
    process = subprocess.Popen(
        ["nsenter", "-t", str(seen.pid), "-n", sys.executable, "-c", _SERVER],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    with process.stdout:
        try:
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()
            process.wait(10 * PATIENCE)


def test_resolver_and_hosts_files(instance: Instance) -> None:
    network = instance.network()
    seen = started(
        instance, on=network, dns=["9.9.9.9", "1.1.1.1"], dns_search=["example.org", "lan"],
        dns_options=["ndots:2", "timeout:1"],
        extra_hosts=["db:10.0.0.5", "host.docker.internal:host-gateway"],
    )  # fmt: skip
    assert seen.run("cat", "/etc/resolv.conf").splitlines() == [
        "# Asked for all but containers' names: 9.9.9.9 1.1.1.1",
        f"nameserver {network.gateway}",
        "search example.org lan",
        "options ndots:2 timeout:1",
    ]
    hosts = seen.run("cat", "/etc/hosts")
    assert "10.0.0.5\tdb" in hosts
    assert f"{network.gateway}\thost.docker.internal" in hosts


def test_published_ports_are_elements_of_the_maps(instance: Instance) -> None:
    base = free_port() // 10 * 10
    seen = started(
        instance,
        on=instance.network(),
        ports=[f"{base}-{base + 1}:80-81", f"127.0.0.1:{base + 2}:53/udp", f"{base + 3}:90/sctp"],
    )
    address = seen.spec.endpoints[0].address
    assert published(instance) == {
        ("tcp", "0.0.0.0", base, address, 80),
        ("tcp", "0.0.0.0", base + 1, address, 81),
        ("udp", "127.0.0.1", base + 2, address, 53),
        ("sctp", "0.0.0.0", base + 3, address, 90),
    }


def test_everything_that_is_exposed_can_be_published(instance: Instance) -> None:
    seen = started(instance, expose=["80", "53/udp"], publish_all=True, on=instance.network())
    assert seen.spec.exposed == ("80/tcp", "53/udp")
    assert {(p[0], p[4]) for p in published(instance)} == {("tcp", 80), ("udp", 53)}


def test_an_internal_network_has_no_way_out(instance: Instance) -> None:
    seen = started(instance, on=instance.network(internal=True))
    assert interfaces(seen) == ["eth0", "lo"]
    assert "default" not in seen.run("ip", "route")
    assert "default" in started(instance, on=instance.network()).run("ip", "route")


def test_with_the_hosts_network_it_knows_the_hosts_names(instance: Instance) -> None:
    seen = started(instance, network="host", extra_hosts={"db": "10.0.0.5"}, dns_search=["lan"])
    hosts = seen.run("cat", "/etc/hosts")
    assert hosts.startswith(Path("/etc/hosts").read_text().strip())
    assert hosts.endswith("10.0.0.5\tdb")
    lines = seen.run("cat", "/etc/resolv.conf").splitlines()
    assert "search lan" in lines
    host = Path("/etc/resolv.conf").read_text().splitlines()
    assert {line for line in host if line.startswith("nameserver")} <= set(lines)


def test_an_address_that_cannot_be_published_on_is_refused_at_once(instance: Instance) -> None:
    spec = asked(instance, ports=["[::1]:8080:80"], on=instance.network())
    with pytest.raises(Unsupported) as caught:
        instance.create(spec)
    assert caught.value.extra["field"] == "ports[0].host_ip"


@pytest.mark.parametrize("text", ["8000-8002:80-81", "80:80/icmp", "70000:80", "a:80"])
def test_ports_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(SpecInvalid):
        parse_ports([text])
