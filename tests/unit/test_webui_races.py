"""Two who want the same thing at once: one gets it, the other an error that names the field."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from runtime.errors import EngineError
from runtime.model.subnets import next_subnet, overlapping
from tests.support.web import Site
from webui.containers.models import Container
from webui.containers.moving import MoveRequest, network_move_ask
from webui.containers.replica import container_delete_row
from webui.containers.selectors import container_find, containers
from webui.containers.services import container_rename
from webui.core.payloads import container_rows, network_row, volume_row
from webui.networks.models import Endpoint, Network, PortReservation
from webui.networks.selectors import networks
from webui.networks.services import network_create, network_move_off
from webui.operations.models import Operation
from webui.volumes.models import Volume
from webui.volumes.services import volume_create, volumes


def at_once(*calls: Callable[[], object]) -> list[object]:
    """What each call returned or raised, all begun at the same moment, each with its own connection."""
    barrier = threading.Barrier(len(calls))
    results: list[object] = [None] * len(calls)

    def run(index: int) -> None:
        try:
            barrier.wait()
            results[index] = calls[index]()
        except EngineError as error:
            results[index] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def refusals(results: list[object]) -> list[tuple[str, object]]:
    return [(r.code, r.extra.get("field")) for r in results if isinstance(r, EngineError)]


def test_one_of_many_gets_a_name(site: Site) -> None:
    results = at_once(*[lambda: site.make("web")] * 6)
    assert refusals(results) == [("already_exists", "name")] * 5
    assert Container.objects.count() == 1


def test_one_of_many_gets_a_port_also_through_another_address(site: Site) -> None:
    ports = ["8080:80", "127.0.0.1:8080:80", "10.0.0.1:8080:80", "8080:81"]
    results = at_once(*[lambda p=p: site.make(ports=[p]) for p in ports])
    refused = refusals(results)
    # 127.0.0.1 and 10.0.0.1 do not exclude each other, everything else does.
    assert len(refused) in (2, 3)
    assert set(refused) == {("port_in_use", "ports[0]")}
    assert PortReservation.objects.count() == Container.objects.count() == 4 - len(refused)


def test_everybody_gets_an_address_of_their_own(site: Site) -> None:
    results = at_once(*[site.make] * 8)
    assert refusals(results) == []
    addresses = set(Endpoint.objects.values_list("address", flat=True))
    assert addresses == {f"172.30.0.{n}" for n in range(2, 10)}


def test_one_of_two_gets_a_chosen_address(site: Site) -> None:
    results = at_once(*[lambda: site.make(ip="172.30.0.7")] * 2)
    assert refusals(results) == [("address_in_use", "ip")]


def test_free_host_ports_are_picked_apart(site: Site) -> None:
    results = at_once(*[lambda: site.make(ports=["80", "81"])] * 4)
    assert refusals(results) == []
    assert len(set(PortReservation.objects.values_list("host_port", flat=True))) == 8


def test_a_new_volume_is_shared_not_made_twice(site: Site) -> None:
    results = at_once(*[lambda: site.make(volumes=["data:/data"])] * 4)
    assert refusals(results) == []
    assert Volume.objects.get().mounts.count() == 4


def test_one_of_two_makes_a_volume(site: Site) -> None:
    def make() -> object:
        return volume_create(host=site.host, name="data", user=None, via="ui")

    assert refusals(at_once(make, make)) == [("already_exists", "name")]


def test_one_of_two_gets_a_new_name(site: Site) -> None:
    site.make("one")
    site.make("two")

    def rename(name: str) -> object:
        return container_rename(container=container_find(name), name="web", user=None, via="ui")

    results = at_once(lambda: rename("one"), lambda: rename("two"))
    assert refusals(results) == [("already_exists", "name")]


@pytest.mark.parametrize(
    ("table", "rows"),
    [
        ("volumes_volumemount", lambda: [volume_row(v) for v in volumes()]),
        ("networks_endpoint", lambda: [network_row(n) for n in networks()]),
        ("networks_endpoint", lambda: container_rows(containers())),
    ],
)
def test_a_list_survives_a_removal_between_its_queries(
    site: Site, table: str, rows: Callable[[], object]
) -> None:
    made = site.make(volumes=["data:/data"])

    def then_remove(execute: Any, sql: str, *rest: Any) -> Any:
        answer = execute(sql, *rest)
        if f'FROM "{table}"' in sql and sql.startswith("SELECT") and left:
            container_delete_row(container_id=left.pop())
        return answer

    left = [made.pk]
    with connection.execute_wrapper(then_remove):
        assert rows()
    assert left == []


def test_networks_that_give_way_to_the_host_and_new_ones_get_subnets_of_their_own(
    site: Site,
) -> None:
    api = site.api()
    for index in range(3):
        api.post("networks", {"name": f"old-{index}"})
    old = list(Network.objects.filter(name__startswith="old"))
    used = [network.subnet for network in old]
    moves = [lambda n=n: network_move_off(network=n, used=used) for n in old]
    makes = [
        lambda i=i: network_create(host=site.host, name=f"new-{i}", user=None, via="test")
        for i in range(3)
    ]
    results = at_once(*moves, *makes)
    assert refusals(results) == []
    subnets = list(Network.objects.values_list("subnet", flat=True))
    assert len(set(subnets)) == len(subnets) == 7


def test_a_subnet_that_a_network_is_being_moved_to_is_no_new_ones(site: Site) -> None:
    api = site.api()
    api.post("networks", {"name": "moves"})
    Operation.objects.update(status="succeeded")
    following = next_subnet(Network.objects.values_list("subnet", flat=True))
    network_move_ask(
        network=Network.objects.get(name="moves"),
        request=MoveRequest(subnet=following),
        user=None,
        via="test",
    )
    made, _ = network_create(host=site.host, name="new", user=None, via="test")
    assert not overlapping(made.subnet, [following])
