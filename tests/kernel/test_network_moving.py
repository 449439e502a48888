"""A network whose subnet somebody takes while its bridge is away, and the way out: another subnet."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from ipaddress import ip_interface, ip_network

import pytest
from pyroute2 import IPRoute

from runtime.errors import Conflict, NetworkInUse
from runtime.model.spec import EndpointSpec, NetworkSpec
from runtime.model.subnets import gateway_for
from runtime.network import NetworkManager
from runtime.store.paths import Config
from tests.support.engine import Instance
from tests.support.netns import fresh_netns
from tests.support.networks import network_spec
from tests.support.options import Seen, started

SUBNET, OTHER = "172.30.0.0/22", "10.201.8.0/22"


@pytest.fixture
def networks(config: Config) -> Iterator[NetworkManager]:
    """On a host of its own."""
    with fresh_netns():
        made = NetworkManager(config)
        yield made
        made.close()


def interface(name: str, address: str) -> None:
    """One that has `address` ("172.30.0.9/16"), up."""
    with IPRoute() as netlink:
        netlink.link("add", ifname=name, kind="bridge")
        index = netlink.link_lookup(ifname=name)[0]
        found = ip_interface(address)
        netlink.addr("add", index=index, address=str(found.ip), prefixlen=found.network.prefixlen)
        netlink.link("set", index=index, state="up")


def route(name: str, destination: str) -> None:
    with IPRoute() as netlink:
        netlink.route("add", dst=destination, oif=netlink.link_lookup(ifname=name)[0])


def gone(name: str) -> None:
    with IPRoute() as netlink:
        netlink.link("del", ifname=name)


def addresses(config: Config, network: NetworkSpec) -> list[str]:
    """Those of its bridge; none when there is no bridge."""
    with IPRoute() as netlink:
        index = netlink.link_lookup(ifname=config.bridge(network.id))
        found = netlink.get_addr(index=index[0]) if index else ()
        return [f"{a.get_attr('IFA_ADDRESS')}/{a['prefixlen']}" for a in found if a["family"] == 2]


def made_and_gone(networks: NetworkManager, subnet: str = SUBNET) -> NetworkSpec:
    """A network of this host after a reboot: its file is there."""
    network = network_spec("shop", subnet)
    networks.ensure(network)
    networks.clean()
    return network


@pytest.mark.parametrize("address", ["172.30.0.9/22", "172.30.2.9/24", "172.30.100.9/16"])
def test_a_network_whose_subnet_an_interface_has_taken_says_who_has_it(
    networks: NetworkManager, config: Config, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    network = made_and_gone(networks)
    interface("tun7", address)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            networks.repair()
    assert [r.getMessage().count("tun7") for r in caplog.records] == [2], (
        "said once, who and what to do"
    )
    assert addresses(config, network) == [], "the other's packets are not taken away"
    with pytest.raises(Conflict) as caught:
        networks.ensure(network)
    message = caught.value.message
    theirs = str(ip_interface(address).network)
    assert all(word in message for word in ("shop", SUBNET, "tun7", theirs))
    assert "networks/shop/move" in caught.value.hint
    assert caught.value.extra["interfaces"] == ["tun7"]
    gone("tun7")
    assert networks.repair()
    assert addresses(config, network) == ["172.30.0.1/22"]


def test_a_wider_route_takes_nothing_from_a_network_that_exists(
    networks: NetworkManager, config: Config
) -> None:
    network = made_and_gone(networks)
    interface("tun7", "192.0.2.10/24")
    route("tun7", "172.16.0.0/12")
    assert networks.repair()
    assert addresses(config, network) == ["172.30.0.1/22"]
    with pytest.raises(Conflict, match="tun7"):
        networks.ensure(network_spec("new", "172.29.0.0/22"))


def test_routes_to_everywhere_are_no_clash(networks: NetworkManager, config: Config) -> None:
    interface("tun7", "192.0.2.10/24")
    route("tun7", "0.0.0.0/1")
    route("tun7", "128.0.0.0/1")
    network = network_spec("shop", SUBNET)
    networks.ensure(network)
    assert addresses(config, network) == ["172.30.0.1/22"]


def test_a_network_is_moved_to_another_subnet(networks: NetworkManager, config: Config) -> None:
    network = made_and_gone(networks)
    interface("tun7", "172.30.0.9/16")
    moved = dataclasses.replace(network, subnet=OTHER, gateway=gateway_for(OTHER))
    for _ in range(2):
        networks.move(moved)
    assert addresses(config, network) == ["10.201.8.1/22"]
    assert networks.get(network.id) == moved
    assert not networks.repair()
    taken = dataclasses.replace(network, subnet="172.30.4.0/22", gateway="172.30.4.1")
    with pytest.raises(Conflict, match="tun7"):
        networks.move(taken)
    assert addresses(config, network) == ["10.201.8.1/22"]


# -- with containers -----------------------------------------------------------------------------


@pytest.fixture
def instance() -> Iterator[Instance]:
    with Instance() as made:
        yield made


def elsewhere(network: NetworkSpec) -> NetworkSpec:
    """The network on the /24 beside its own."""
    first = ip_network(network.subnet).network_address + 256
    subnet = f"{first}/24"
    return dataclasses.replace(network, subnet=subnet, gateway=gateway_for(subnet))


def there(seen: Seen, network: NetworkSpec) -> dict[str, EndpointSpec]:
    """The container's endpoint in the subnet, with the same last number."""
    [endpoint] = seen.spec.endpoints
    last = endpoint.address.rpartition(".")[2]
    address = f"{network.gateway.rpartition('.')[0]}.{last}"
    return {seen.spec.id: dataclasses.replace(endpoint, address=address, gateway=network.gateway)}


@pytest.fixture
def network(instance: Instance) -> NetworkSpec:
    return instance.network(subnet="10.199.6.0/24", gateway="10.199.6.1")


def test_containers_that_rest_follow_and_start_there(
    instance: Instance, network: NetworkSpec
) -> None:
    seen, other = started(instance, on=network), started(instance, on=network)
    for each in (seen, other):
        instance.engine.stop(each.spec.id)
    moved = elsewhere(network)
    wanted = there(seen, moved) | there(other, moved)
    for _ in range(2):
        instance.engine.moving.move(moved, wanted)
    for each in (seen, other):
        assert instance.engine.inspect(each.spec.id).endpoints == (wanted[each.spec.id],)
        instance.engine.start(each.spec.id)
    address = wanted[seen.spec.id].address
    assert f"inet {address}/24" in seen.run("ip", "addr", "show", "eth0")
    assert f"{address}\t" in seen.run("cat", "/etc/hosts")
    seen.run("ping", "-c", "1", "-W", "3", wanted[other.spec.id].address)


def test_one_that_runs_keeps_the_network_where_it_is(
    instance: Instance, network: NetworkSpec
) -> None:
    rests, runs = started(instance, on=network), started(instance, on=network)
    instance.engine.stop(rests.spec.id)
    moved = elsewhere(network)
    with pytest.raises(NetworkInUse, match=runs.spec.name):
        instance.engine.moving.move(moved, there(rests, moved) | there(runs, moved))
    assert instance.engine.inspect(rests.spec.id) == rests.spec
    assert instance.engine.networks.get(network.id) == network
    instance.engine.start(rests.spec.id)
    rests.run("ping", "-c", "1", "-W", "3", runs.spec.endpoints[0].address)


def test_what_is_started_in_the_middle_of_a_move_is_refused_and_a_move_that_was_cut_short_is_put_back(
    instance: Instance, network: NetworkSpec
) -> None:
    seen = started(instance, on=network)
    instance.engine.stop(seen.spec.id)
    moved = elsewhere(network)
    instance.engine.networks.move(moved)  # and the worker died
    with pytest.raises(Conflict, match=network.name):
        instance.engine.start(seen.spec.id)
    before = {seen.spec.id: seen.spec.endpoints[0]}
    for _ in range(2):
        instance.engine.moving.put_back(network, before)
    assert instance.engine.networks.get(network.id) == network
    instance.engine.start(seen.spec.id)
    assert f"inet {seen.spec.endpoints[0].address}/24" in seen.run("ip", "addr", "show", "eth0")


def test_a_subnet_that_another_network_has_is_refused_and_all_is_as_before(
    instance: Instance, network: NetworkSpec
) -> None:
    seen = started(instance, on=network)
    instance.engine.stop(seen.spec.id)
    moved = elsewhere(network)
    instance.network(subnet=moved.subnet, gateway=moved.gateway)
    with pytest.raises(Conflict, match=moved.subnet):
        instance.engine.moving.move(moved, there(seen, moved))
    assert instance.engine.inspect(seen.spec.id) == seen.spec
    instance.engine.start(seen.spec.id)
