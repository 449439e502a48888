"""Published ports of IPv4: who reaches them, and who does not, on a host of their own (tests/support/lab.py)."""

from __future__ import annotations

import errno
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.errors import PortInUse, Unsupported
from runtime.kernel import conntrack
from runtime.model.spec import ContainerSpec, PortMapping
from runtime.store.paths import Config
from tests.support.lab import HOST, NEIGHBOUR, Lab, lab4
from tests.support.netns import exchange, exchange_udp, reaches
from tests.support.networks import container_spec, endpoint
from tests.support.waiting import PATIENCE, wait_until


@pytest.fixture
def lab(config: Config) -> Iterator[Lab]:
    with lab4(config) as made:
        yield made


def nft(command: str) -> str:
    return subprocess.run(
        ["nft", *command.split()], check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.parametrize("bridged", ["0", "1"], ids=["routed", "br_netfilter"])
def test_a_published_port_answers_from_everywhere(lab: Lab, bridged: str) -> None:
    """With br_netfilter the translation happens before the frame is routed, inside the bridge."""
    setting = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if setting.exists():
        setting.write_text(bridged)
    elif bridged == "1":
        pytest.skip("this kernel has no br_netfilter")
    network = lab.network("one", "172.30.0.0/22")
    server, _ = lab.container(network, 2, (PortMapping(80, 8080),))
    neighbour_container, _ = lab.container(network, 3)
    other_network, _ = lab.container(lab.network("two", "172.30.4.0/22"), 2)
    listening = server.listen(80)

    assert exchange(listening, "127.0.0.1", 8080) == "172.30.0.1"
    assert exchange(listening, "127.8.9.10", 8080) == "172.30.0.1"
    assert exchange(listening, HOST, 8080)
    assert exchange(listening, "172.30.0.1", 8080)
    with lab.neighbour.inside():
        assert exchange(listening, HOST, 8080) == NEIGHBOUR, "the client's address must be kept"
    with neighbour_container.inside():
        assert exchange(listening, HOST, 8080) == "172.30.0.1"
    with server.inside():  # through the host back to itself
        assert exchange(listening, HOST, 8080) == "172.30.0.1"
    with other_network.inside():
        assert exchange(listening, HOST, 8080)


def test_a_udp_port_answers_from_everywhere(lab: Lab) -> None:
    network = lab.network("one", "172.30.0.0/22")
    server, _ = lab.container(network, 2, (PortMapping(53, 5353, "udp"),))
    client, _ = lab.container(network, 3)
    bound = server.bind_udp(53)
    assert exchange_udp(bound, "127.0.0.1", 5353) == "172.30.0.1"
    assert exchange_udp(bound, HOST, 5353)
    with lab.neighbour.inside():
        assert exchange_udp(bound, HOST, 5353) == NEIGHBOUR
    with client.inside():
        assert exchange_udp(bound, HOST, 5353)


@pytest.fixture(params=["filtered", "one by one"])
def forgetting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also as on a kernel that filters no deletion, such as Linux 6.1."""
    delete = conntrack._delete

    def refusing(netlink: socket.socket, body: bytes) -> int:
        filtered = conntrack._CTA_FILTER in conntrack._attributes(body[conntrack._GENERAL :])
        return errno.EINVAL if filtered else delete(netlink, body)

    if request.param == "one by one":
        monkeypatch.setattr(conntrack, "_delete", refusing)


@pytest.mark.usefixtures("forgetting")
def test_a_udp_sender_that_does_not_stop_follows_the_port(lab: Lab) -> None:
    """A flow is tracked from its first packet: without forgetting it, it would go on leading nowhere."""
    network = lab.network("one", "172.30.0.0/22")
    ports = (PortMapping(514, 5140, "udp"),)
    with lab.neighbour.inside():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        bystander = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender, bystander:
        for early in (b"nobody", b"is", b"there"):
            sender.sendto(early, (HOST, 5140))
        bystander.sendto(b"x", (HOST, 9999))
        first, spec = lab.container(network, 2, ports)
        bound = first.bind_udp(514)
        sender.sendto(b"to the first", (HOST, 5140))
        assert bound.recv(64) == b"to the first"
        lab.networks.unpublish(spec.id)
        second, _ = lab.container(network, 3, ports)
        bound = second.bind_udp(514)
        sender.sendto(b"to the second", (HOST, 5140))
        assert bound.recv(64) == b"to the second"
        assert "dport=9999" in Path("/proc/net/nf_conntrack").read_text()


def test_a_port_on_one_address_answers_there_alone(lab: Lab) -> None:
    network = lab.network("one", "172.30.0.0/22")
    ports = (PortMapping(80, 8080, host_ip="127.0.0.1"), PortMapping(80, 8081, host_ip=HOST))
    server, _ = lab.container(network, 2, ports)
    client, _ = lab.container(network, 3)
    listening = server.listen(80)
    assert exchange(listening, "127.0.0.1", 8080)
    assert not reaches(HOST, 8080)
    assert not reaches("127.0.0.1", 8081)
    with lab.neighbour.inside():
        assert not reaches(HOST, 8080)
        assert exchange(listening, HOST, 8081) == NEIGHBOUR
    with client.inside():
        assert not reaches("172.30.0.1", 8080)
        assert exchange(listening, HOST, 8081)


def test_the_hosts_own_firewall_has_the_last_word(lab: Lab) -> None:
    server, _ = lab.container(lab.network("one", "172.30.0.0/22"), 2, (PortMapping(80, 8080),))
    listening = server.listen(80)
    nft("add table ip hostpolicy")
    nft(
        "add chain ip hostpolicy forwarding { type filter hook forward priority 10 ; policy drop ; }"
    )
    with lab.neighbour.inside():
        assert not reaches(HOST, 8080)
    assert exchange(listening, "127.0.0.1", 8080)
    assert lab.networks.blocking_chains() == ["ip hostpolicy forwarding"]


def test_a_port_published_twice_is_refused_while_its_holder_lives(lab: Lab) -> None:
    network = lab.network("one", "172.30.0.0/22")
    _, first = lab.container(network, 2, (PortMapping(80, 8080),))
    second = container_spec("late", [endpoint(network, "172.30.0.3")], [PortMapping(80, 8080)])
    with pytest.raises(PortInUse) as caught:
        lab.networks.publish(second)
    assert caught.value.extra["container"] == first.id
    assert {p.container_id for p in lab.networks.published()} == {first.id}


def test_a_dead_containers_port_goes_to_the_next_and_stays_there(lab: Lab) -> None:
    network = lab.network("one", "172.30.0.0/22")
    machine, dead = lab.container(network, 2, (PortMapping(80, 8080),))
    machine.stop()
    name = lab.networks.ifname(dead.id, network.id)
    wait_until(lambda: lab.networks.counters(name) is None, what="the veth is gone with its netns")
    server, living = lab.container(network, 2, (PortMapping(80, 8080),))
    lab.networks.unpublish(dead.id)  # late, and must not take the new owner's element
    assert {p.container_id for p in lab.networks.published()} == {living.id}
    assert exchange(server.listen(80), "127.0.0.1", 8080)


def test_ipv6_host_addresses_are_refused_by_name(lab: Lab) -> None:
    network = lab.network("one", "172.30.0.0/22")
    spec = container_spec(
        "six", [endpoint(network, "172.30.0.2")], [PortMapping(80, 8080, host_ip="::1")]
    )
    with pytest.raises(Unsupported):
        lab.networks.publish(spec)
    assert lab.networks.published() == set()


def test_a_thousand_published_ports_stay_quick(lab: Lab) -> None:
    network = lab.network("one", "172.30.0.0/22")
    specs = [
        container_spec(
            f"c{n}",
            [endpoint(network, f"172.30.{n // 250}.{n % 250 + 2}")],
            [PortMapping(80, 10000 + 10 * n + k) for k in range(10)],
        )
        for n in range(100)
    ]
    first = median_of(lambda spec: lab.networks.publish(spec), specs[:10])
    for spec in specs[10:90]:
        lab.networks.publish(spec)
    last = median_of(lambda spec: lab.networks.publish(spec), specs[90:])
    assert len(lab.networks.published()) == 1000
    removal = median_of(lambda spec: lab.networks.unpublish(spec.id), specs[50:60])
    assert len(lab.networks.published()) == 900
    assert last < 4 * first + 0.005, "publishing must not slow down with what is published"
    assert removal < 0.05 * PATIENCE


def median_of(action: Callable[[ContainerSpec], object], specs: list[ContainerSpec]) -> float:
    """Median duration of `action` on each of `specs`, in seconds."""
    taken = []
    for spec in specs:
        begin = time.perf_counter()
        action(spec)
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)
