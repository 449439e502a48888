"""Networks of IPv4 on a host of their own, with a neighbour on its LAN (tests/support/lab.py)."""

from __future__ import annotations

import dataclasses
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from runtime.errors import (
    Conflict,
    KernelFailure,
    NetlinkFailure,
    NetworkInUse,
    NotFound,
)
from runtime.model.spec import ContainerSpec, PortMapping
from runtime.network import NetworkManager
from runtime.network.sysctls import read
from runtime.store.paths import Config
from tests.support.lab import HOST, NEIGHBOUR, Lab, lab4
from tests.support.netns import TIMEOUT, Machine, exchange, reaches
from tests.support.networks import container_spec, endpoint, network_spec


@pytest.fixture
def lab(config: Config) -> Iterator[Lab]:
    with lab4(config) as made:
        yield made


def nft(command: str) -> str:
    return subprocess.run(
        ["nft", *command.split()], check=True, capture_output=True, text=True
    ).stdout


# -- networks ----------------------------------------------------------------------------------


def test_containers_on_one_network_reach_each_other_and_keep_their_addresses(lab: Lab) -> None:
    network = lab.network("one", "172.30.0.0/22")
    server, _ = lab.container(network, 2)
    client, _ = lab.container(network, 3)
    listening = server.listen(80)
    with client.inside():
        assert exchange(listening, "172.30.0.2", 80) == "172.30.0.3"


def test_networks_are_closed_to_each_other(lab: Lab) -> None:
    server, _ = lab.container(lab.network("one", "172.30.0.0/22"), 2)
    client, _ = lab.container(lab.network("two", "172.30.4.0/22"), 2)
    server.listen(80)
    with client.inside():
        assert not reaches("172.30.0.2", 80)


def test_a_container_reaches_other_machines_from_the_hosts_address(lab: Lab) -> None:
    client, _ = lab.container(lab.network("one", "172.30.0.0/22"), 2)
    outside = lab.neighbour.listen(80)
    with client.inside():
        assert exchange(outside, NEIGHBOUR, 80) == HOST


def test_an_internal_network_has_no_way_out_and_none_in(lab: Lab) -> None:
    network = lab.network("inner", "172.30.0.0/22", internal=True)
    server, _ = lab.container(network, 2, (PortMapping(80, 8080),))
    client, _ = lab.container(network, 3)
    listening = server.listen(80)
    lab.neighbour.listen(80)
    with client.inside():
        assert exchange(listening, "172.30.0.2", 80) == "172.30.0.3"
        assert not reaches(NEIGHBOUR, 80)
    for address in ("127.0.0.1", HOST, network.gateway):  # the host itself may
        assert exchange(listening, address, 8080) == network.gateway
    with lab.neighbour.inside():
        assert not reaches(HOST, 8080)


def test_a_neighbour_that_routes_into_a_subnet_finds_no_unpublished_port(lab: Lab) -> None:
    server, _ = lab.container(lab.network("one", "172.30.0.0/22"), 2)
    server.listen(80)
    with lab.neighbour.inside(), IPRoute() as netlink:
        netlink.route("add", dst="172.30.0.0/22", gateway=HOST)
        assert not reaches("172.30.0.2", 80)


def test_a_container_cannot_reach_what_the_host_serves_on_loopback(lab: Lab) -> None:
    """route_localnet alone would open it to a container that sends 127.0.0.1 to its gateway."""
    attacker, _ = lab.container(lab.network("one", "172.30.0.0/22"), 2)
    with attacker.inside(), IPRoute() as netlink:
        netlink.addr("del", index=1, address="127.0.0.1", prefixlen=8)
        Path("/proc/sys/net/ipv4/conf/eth0/route_localnet").write_text("1")
        netlink.route("add", dst="127.0.0.1/32", gateway="172.30.0.1")
    with socket.create_server(("127.0.0.1", 6379)):
        with attacker.inside():
            assert not reaches("127.0.0.1", 6379)
        nft(f"flush chain inet {lab.config.nft_table} guard")
        with attacker.inside():
            found = reaches("127.0.0.1", 6379, within=TIMEOUT)
        assert found, "the test's attack does not work: it proves nothing"


def test_attaching_again_replaces_a_leftover(lab: Lab) -> None:
    network = lab.network("one", "172.30.0.0/22")
    server, spec = lab.container(network, 2)
    end = spec.endpoints[0]
    lab.networks.detach(spec.id, network.id)
    lab.networks.detach(spec.id, network.id)
    for _ in range(2):
        name = lab.networks.attach(spec, end, 0, server.pid)
    server.configure("eth0", end.address, end.prefix_length, end.gateway)
    assert name == lab.networks.ifname(spec.id, network.id)
    assert exchange(server.listen(80), end.address, 80) == network.gateway


def test_attaching_a_process_that_is_gone_fails_and_leaves_nothing(lab: Lab) -> None:
    network = lab.network("one", "172.30.0.0/22")
    gone = Machine.start()
    gone.stop()
    spec = container_spec("gone", [endpoint(network, "172.30.0.2")])
    with pytest.raises(NetlinkFailure) as caught:
        lab.networks.attach(spec, spec.endpoints[0], 0, gone.pid)
    assert caught.value.extra["errno"] == "ESRCH"
    assert caught.value.extra["pid"] == gone.pid
    assert lab.networks.counters(lab.networks.ifname(spec.id, network.id)) is None


# -- clean removal, repair, refusals -----------------------------------------------------------


def test_removal_leaves_nothing_and_may_be_repeated(lab: Lab) -> None:
    before = nft("list ruleset")
    network = lab.network("one", "172.30.0.0/22")
    machine, spec = lab.container(network, 2, (PortMapping(80, 8080), PortMapping(53, 53, "udp")))
    with pytest.raises(NetworkInUse):
        lab.networks.remove(network.id)
    machine.stop()
    for _ in range(2):
        lab.networks.detach(spec.id, network.id)
        lab.networks.unpublish(spec.id)
        lab.networks.unregister_names(spec.id)
        lab.networks.remove(network.id)
    assert lab.networks.published() == set()
    assert lab.networks.list() == []
    with IPRoute() as netlink:
        names = {link.get_attr("IFLA_IFNAME") for link in netlink.get_links()}
    assert not [name for name in names if name.startswith(lab.config.tag)]
    assert not [f for f in lab.config.run.rglob("*") if f.is_file() and spec.id in f.name]
    lab.networks.clean()
    assert nft("list ruleset") == before


def test_other_peoples_tables_are_untouched(lab: Lab) -> None:
    nft("add table inet theirs")
    nft("add chain inet theirs input { type filter hook input priority 0 ; policy accept ; }")
    nft("add rule inet theirs input tcp dport 9 counter drop")
    before = nft("list table inet theirs")
    network = lab.network("one", "172.30.0.0/22")
    _, spec = lab.container(network, 2, (PortMapping(80, 8080),))
    lab.networks.repair()
    lab.networks.unpublish(spec.id)
    lab.networks.clean()
    assert nft("list table inet theirs") == before
    assert nft("list tables").split() == ["table", "inet", "theirs"]


@pytest.mark.parametrize(
    "damage",
    ["flush ruleset", "flush table inet {table}", "flush chain inet {table} publish_locally",
     "flush map inet {table} ports", "delete table inet {table}"],
)  # fmt: skip
def test_repair_puts_back_what_somebody_flushed(lab: Lab, damage: str) -> None:
    network = lab.network("one", "172.30.0.0/22")
    server, spec = lab.container(network, 2, (PortMapping(80, 8080),))
    listening = server.listen(80)
    nft(damage.format(table=lab.config.nft_table))
    assert not reaches("127.0.0.1", 8080)
    assert lab.networks.repair()
    assert exchange(listening, "127.0.0.1", 8080)
    assert not lab.networks.repair(), "nothing is left to repair"
    assert {p.container_id for p in lab.networks.published()} == {spec.id}


def test_publishing_after_a_flush_makes_the_table_again(lab: Lab) -> None:
    network = lab.network("one", "172.30.0.0/22")
    lab.container(network, 2, (PortMapping(80, 8080),))
    nft("flush ruleset")
    server, _ = lab.container(network, 3, (PortMapping(80, 8081),))
    assert exchange(server.listen(80), "127.0.0.1", 8081)
    assert {p.host_port for p in lab.networks.published()} == {8080, 8081}


def test_a_table_of_an_older_shape_is_replaced(lab: Lab) -> None:
    table = lab.config.nft_table
    nft(f"add table inet {table}")
    nft(f"add map inet {table} ports {{ type inet_service : ipv4_addr ; }}")
    server, _ = lab.container(lab.network("one", "172.30.0.0/22"), 2, (PortMapping(80, 8080),))
    assert exchange(server.listen(80), "127.0.0.1", 8080)


def test_repair_makes_bridges_again_as_after_a_reboot(lab: Lab) -> None:
    network = lab.network("one", "172.30.0.0/22")
    lab.networks.clean()
    again = NetworkManager(lab.config)
    try:
        assert again.repair()
        assert not again.repair()
    finally:
        again.close()
    server, _ = lab.container(network, 2)
    client, _ = lab.container(network, 3)
    listening = server.listen(80)
    with client.inside():
        assert exchange(listening, "172.30.0.2", 80)


@pytest.mark.parametrize("subnet", ["192.0.2.0/24", "192.0.2.128/25", "192.0.0.0/16"])
def test_a_subnet_that_the_host_uses_is_refused(lab: Lab, subnet: str) -> None:
    with pytest.raises(Conflict) as caught:
        lab.network("clash", subnet)
    assert caught.value.extra["routes"] == ["192.0.2.0/24"]
    assert lab.networks.list() == []
    assert "192.0.2.0/24" in lab.networks.host_subnets()


def test_what_the_host_uses_is_told_without_a_list_of_all_links(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lab.networks.host_subnets()
    route = lab.networks._links._netlink._route

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("Each container has a link, and the watcher asks every few seconds.")

    monkeypatch.setattr(route, "get_links", refused, raising=False)
    assert "192.0.2.0/24" in lab.networks.host_subnets()


def test_overlapping_networks_are_refused(lab: Lab) -> None:
    lab.network("one", "172.30.0.0/22")
    with pytest.raises(Conflict):
        lab.network("two", "172.30.2.0/24")


def test_a_network_that_cannot_be_made_leaves_nothing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str, *, ipv6: bool) -> None:
        raise KernelFailure("write", 30, "/proc/sys/net/ipv4/conf")

    monkeypatch.setattr("runtime.network.sysctls.prepare_bridge", fail)
    spec = network_spec("one", "172.30.0.0/22")
    with pytest.raises(KernelFailure):
        lab.networks.ensure(spec)
    assert lab.networks.list() == []
    assert not list(lab.config.dns.glob("*"))
    assert (
        "bridge"
        not in subprocess.run(
            ["ip", "-d", "link"], check=True, capture_output=True, text=True
        ).stdout
    )


def test_a_network_keeps_its_settings_but_may_change_its_name(lab: Lab) -> None:
    network = lab.network("one", "172.30.0.0/22")
    lab.networks.ensure(dataclasses.replace(network, name="renamed", labels={"a": "b"}))
    assert [n.name for n in lab.networks.list()] == ["renamed"]
    with pytest.raises(Conflict):
        lab.networks.ensure(dataclasses.replace(network, internal=True))


def test_an_unknown_network_is_not_found(lab: Lab) -> None:
    spec = container_spec("lost", [endpoint(network_spec("x", "172.30.0.0/22"), "172.30.0.2")])
    with pytest.raises(NotFound):
        lab.networks.attach(spec, spec.endpoints[0], 0, lab.neighbour.pid)


def test_forwarding_is_turned_on_where_it_is_off_and_written_down(lab: Lab) -> None:
    Path("/proc/sys/net/ipv4/ip_forward").write_text("0")
    lab.network("one", "172.30.0.0/22")
    assert read("net.ipv4.ip_forward") == "1"
    (change,) = lab.networks.sysctl_changes()
    assert (change.name, change.before, change.after) == ("net.ipv4.ip_forward", "0", "1")


def test_counters_are_the_containers_own(lab: Lab) -> None:
    network = lab.network("one", "172.30.0.0/22")
    machine, spec = lab.container(network, 2)
    listening = machine.listen(80)
    name = lab.networks.ifname(spec.id, network.id)
    assert exchange(listening, "172.30.0.2", 80)
    counters = lab.networks.counters(name)
    assert counters is not None
    assert counters.rx_packets > 3
    assert counters.tx_bytes > 100
    assert lab.networks.counters("slwnothere") is None


def test_two_instances_on_one_host_do_not_meet(lab: Lab, tmp_path: Path) -> None:
    other = Config(root=tmp_path / "root", run=tmp_path / "run", name="test-other")
    one = lab.network("one", "172.30.0.0/22")
    server, _ = lab.container(one, 2, (PortMapping(80, 8080),))
    listening = server.listen(80)
    second = NetworkManager(other)
    try:
        second.ensure(network_spec("one", "172.30.4.0/22"))
        second.clean()
    finally:
        second.close()
    assert exchange(listening, "127.0.0.1", 8080)
    assert not lab.networks.repair()


# -- many at once ---------------------------------------------------------------------------


def test_starts_from_many_threads_at_once(lab: Lab) -> None:
    network = lab.network("one", "172.30.0.0/22")
    specs = [
        container_spec(f"c{n}", [endpoint(network, f"172.30.0.{n}")], [PortMapping(80, 8000 + n)])
        for n in range(2, 18)
    ]
    machines = [Machine.start() for _ in specs]
    lab.machines += machines

    def start(spec: ContainerSpec, machine: Machine) -> str:
        lab.networks.ensure(network)
        name = lab.networks.attach(spec, spec.endpoints[0], 0, machine.pid)
        lab.networks.publish(spec)
        lab.networks.register_names(spec)
        return name

    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(start, specs, machines))
    assert len(set(names)) == len(specs)
    assert len(lab.networks.published()) == len(specs)
    assert all(lab.networks.counters(name) is not None for name in names)
