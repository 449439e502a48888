"""/api/v1/networks/…/move: another subnet for a network whose containers rest, and what they have there."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from runtime.errors import Conflict, KernelFailure
from runtime.model.spec import EndpointSpec, NetworkSpec
from runtime.model.subnets import moved_addresses
from tests.support.web import Site
from webui.containers.models import Container
from webui.networks.models import Network
from webui.operations.models import Event, Operation
from workers import base, instance
from workers.tasks import networks as tasks


class Host:
    """The engine's part: what the host's disk says."""

    def __init__(self) -> None:
        self.moving = self
        self.failure: Exception | None = None
        self.network: NetworkSpec | None = None
        self.endpoints: dict[str, EndpointSpec] = {}

    def move(self, network: NetworkSpec, endpoints: dict[str, EndpointSpec]) -> None:
        if self.failure:
            raise self.failure
        self.put_back(network, endpoints)

    def put_back(self, network: NetworkSpec, endpoints: dict[str, EndpointSpec]) -> None:
        self.network, self.endpoints = network, endpoints


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host()
    monkeypatch.setattr(instance, "engine", lambda: made)
    return made


@pytest.fixture
def rest(site: Site) -> list[Container]:
    """`web` and `db`, which has asked for its address, on the default network; neither runs."""
    rows = [site.make("web", network_aliases=["www"]), site.make("db", ip="172.30.2.9")]
    Operation.objects.update(status="succeeded")
    Container.objects.update(present=True, status="exited")
    return rows


def work() -> Operation:
    operation = Operation.objects.get(kind="network.move", status=Operation.Status.PENDING)
    base.execute(str(operation.pk), tasks.move, tasks._move_back)
    operation.refresh_from_db()
    return operation


def test_containers_follow_their_network(site: Site, rest: list[Container], host: Host) -> None:
    web, db = rest
    asked = site.api().post("networks/default/move", {"subnet": "10.9.0.0/24"})
    assert (asked["kind"], asked["target_name"]) == ("network.move", "default")
    assert site.api().get("networks/default")["subnet"] == "172.30.0.0/22", "not done yet"
    operation = work()
    assert operation.status == "succeeded", operation.error
    moved = {"web": ("172.30.0.2", "10.9.0.2"), "db": ("172.30.2.9", "10.9.0.3")}
    told = {c["name"]: (c["before"], c["address"]) for c in operation.result["containers"]}
    assert told == moved
    row = site.api().get("networks/default")
    assert (row["subnet"], row["gateway"]) == ("10.9.0.0/24", "10.9.0.1")
    assert {c["name"]: c["address"] for c in row["containers"]} == {
        name: after for name, (_, after) in moved.items()
    }
    for container in (web, db):
        container.refresh_from_db()
        [endpoint] = container.spec["endpoints"]
        assert (endpoint["gateway"], endpoint["prefix_length"]) == ("10.9.0.1", 24)
        assert endpoint["address"] == moved[container.name][1]
        assert host.endpoints[container.pk].address == endpoint["address"]
    assert web.spec["endpoints"][0]["aliases"] == ["www"]
    assert web.spec["endpoints"][0]["mac_address"] == "02:42:0a:09:00:02"
    events = Event.objects.filter(type="container.moved")
    assert {e.target_name for e in events} == {"web", "db"}
    # What is made now has an address of the new subnet.
    assert site.make("later").spec["endpoints"][0]["address"] == "10.9.0.4"


def test_a_worker_that_died_after_the_work_is_followed_by_one_that_changes_nothing_more(
    site: Site, rest: list[Container], host: Host
) -> None:
    site.api().post("networks/default/move", {"subnet": "10.9.0.0/24"})
    assert work().status == "succeeded"
    before = [(c.pk, c.spec) for c in Container.objects.order_by("pk")]
    Operation.objects.filter(kind="network.move").update(status="pending")
    assert work().result["containers"] == []
    assert [(c.pk, c.spec) for c in Container.objects.order_by("pk")] == before
    assert Event.objects.filter(type="container.moved").count() == 2


def test_without_a_subnet_it_gets_one_that_neither_a_network_nor_the_host_has(
    site: Site, rest: list[Container], host: Host
) -> None:
    site.api().post("networks", {"name": "shop"})  # 172.30.4.0/22
    site.host.facts = {"network": {"host_subnets": ["172.30.8.0/22"]}}
    site.host.save()
    site.api().post("networks/default/move", {})
    assert work().result["subnet"] == "172.30.12.0/22"
    assert Container.objects.get(name="db").endpoints.get().address == "172.30.14.9", "same place"


def test_an_ipv6_subnet_moves_by_itself(site: Site, host: Host) -> None:
    api = site.api()
    api.post("networks", {"name": "six", "subnet": "10.9.0.0/24", "subnet6": "fd00:1::/64"})
    container = site.make("web", network="six")
    Operation.objects.update(status="succeeded")
    api.post("networks/six/move", {"subnet6": "fd00:2::/64"})
    assert work().status == "succeeded"
    container.refresh_from_db()
    [end] = container.spec["endpoints"]
    assert (end["address"], end["address6"], end["gateway6"]) == (
        "10.9.0.2",
        "fd00:2::2",
        "fd00:2::1",
    )


@pytest.mark.parametrize(
    ("network", "body", "field", "status"),
    [
        ("default", {"subnet": "nonsense"}, "subnet", 422),
        ("default", {"subnet": "127.0.0.0/16"}, "subnet", 422),
        ("default", {"subnet": "10.9.0.0/24", "gateway": "10.8.0.1"}, "gateway", 422),
        ("default", {"subnet": "10.8.0.128/25"}, "subnet", 409),
        ("default", {"subnet": "172.30.0.0/22"}, "subnet", 409),
        ("default", {"subnet6": "fd00:1::/64"}, "subnet6", 422),
        ("default", {"colour": "red"}, "colour", 422),
        ("default", {"subnet": "10.9.0.0/30"}, None, 422),
    ],
)
def test_what_cannot_be_is_refused_with_its_field(
    site: Site,
    rest: list[Container],
    network: str,
    body: dict[str, Any],
    field: str | None,
    status: int,
) -> None:
    site.api().post("networks", {"name": "shop", "subnet": "10.8.0.0/24"})
    error = site.api().post(f"networks/{network}/move", body, expect=status)
    assert field is None or error["extra"]["field"] == field
    assert not Operation.objects.filter(kind="network.move").exists()


def test_there_must_be_room_for_all(site: Site, host: Host) -> None:
    for number in range(6):
        site.make(f"c{number}")
    Operation.objects.update(status="succeeded")
    error = site.api().post("networks/default/move", {"subnet": "10.9.0.0/29"}, expect=409)
    assert "10.9.0.0/29" in error["message"]


def test_it_waits_for_what_runs_and_for_what_is_under_way(
    site: Site, rest: list[Container]
) -> None:
    api = site.api()
    Container.objects.filter(name="web").update(status="running")
    error = api.post("networks/default/move", {}, expect=409)
    assert (error["code"], error["extra"]["members"]) == ("network_in_use", ["web"])
    assert error["extra"]["hint"]
    Container.objects.filter(name="web").update(status="exited")
    api.post("containers/web/start")
    error = api.post("networks/default/move", {}, expect=409)
    assert "web" in error["message"]


def test_nobody_joins_meanwhile_and_it_is_not_removed(site: Site, rest: list[Container]) -> None:
    api = site.api()
    api.post("networks", {"name": "shop"})
    Operation.objects.update(status="succeeded")
    api.post("networks/shop/move", {})
    made = api.post("containers", {"image": "slipway/starter", "network": "shop"}, expect=409)
    assert "moved" in made["message"]
    joined = api.post("networks/shop/connect", {"container": "web"}, expect=409)
    assert joined["extra"]["field"] == "network"
    api.delete("networks/shop", expect=409)
    api.post("networks/shop/move", {}, expect=409)


@pytest.mark.parametrize("failure", [Conflict("taken"), KernelFailure("write", 5, "/somewhere")])
def test_a_move_that_fails_changes_nothing(
    site: Site, rest: list[Container], host: Host, failure: Exception
) -> None:
    host.failure = failure
    before = site.api().get("networks/default")
    site.api().post("networks/default/move", {"subnet": "10.9.0.0/24"})
    assert work().status == "failed"
    assert site.api().get("networks/default") == before
    assert host.network is not None
    assert host.network.subnet == before["subnet"], "the host is told what holds"
    assert {e.address for e in host.endpoints.values()} == {"172.30.0.2", "172.30.2.9"}


def test_who_may_only_look_moves_nothing(site: Site) -> None:
    site.api("viewer").post("networks/default/move", {}, expect=403)
    site.stranger().post("networks/default/move", {}, expect=401)


def test_the_dialog_says_whose_addresses_change_and_who_must_stop(
    site: Site, rest: list[Container]
) -> None:
    client = Client()
    client.force_login(site.users["operator"])
    path = f"/networks/{Network.objects.get(name='default').pk}/move/"
    html = client.get(path).content.decode()
    assert "172.30.2.9" in html
    assert "Containers run on it" not in html
    Container.objects.filter(name="web").update(status="running")
    html = client.get(path).content.decode()
    assert "Containers run on it" in html
    assert 'data-testid="confirm" disabled' in html
    client.force_login(site.users["viewer"])
    assert client.get(path).status_code == 403


@pytest.mark.parametrize(
    ("addresses", "after", "gateway", "there"),
    [
        (["10.0.0.2", "10.0.0.9"], "10.1.0.0/24", "10.1.0.1", ["10.1.0.2", "10.1.0.9"]),
        (["10.0.0.1", "10.0.0.2"], "10.1.0.0/24", "10.1.0.2", ["10.1.0.1", "10.1.0.3"]),
        (["10.0.3.9", "10.0.0.2"], "10.1.0.0/29", "10.1.0.1", ["10.1.0.3", "10.1.0.2"]),
        (["10.0.0.255"], "10.1.0.0/24", "10.1.0.1", ["10.1.0.2"]),
        ([], "10.1.0.0/24", "10.1.0.1", []),
    ],
)
def test_addresses_keep_their_place_where_there_is_one(
    addresses: list[str], after: str, gateway: str, there: list[str]
) -> None:
    found = moved_addresses(addresses, "10.0.0.0/22", after, gateway)
    assert [found[address] for address in addresses] == there


def test_ipv6_addresses_keep_their_place() -> None:
    found = moved_addresses(["fd00:1::2", "fd00:1::ff"], "fd00:1::/64", "fd00:2::/64", "fd00:2::1")
    assert list(found.values()) == ["fd00:2::2", "fd00:2::ff"]
