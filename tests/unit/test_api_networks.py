"""/api/v1/networks."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.web import Site
from webui.networks.models import Network
from webui.networks.services import network_delete_row
from webui.operations.models import Operation


def test_a_network_gets_the_next_free_subnet(site: Site) -> None:
    site.work = lambda operation: {"id": operation.target_id}
    row = site.api().post("networks?wait=true", {"name": "backend", "internal": True}, expect=201)
    assert (row["subnet"], row["gateway"]) == ("172.30.4.0/22", "172.30.4.1")
    assert row["internal"] is True
    api = site.api("viewer")
    assert [n["name"] for n in api.get("networks")] == ["backend", "default"]
    for key in ("backend", row["id"], row["id"][:12]):
        assert api.get(f"networks/{key}")["id"] == row["id"]
    api.get("networks/other", expect=404)


def test_a_subnet_may_be_chosen(site: Site) -> None:
    site.api().post("networks", {"name": "lab", "subnet": "10.9.0.0/24", "gateway": "10.9.0.254"})
    network = Network.objects.get(name="lab")
    assert (network.subnet, network.gateway) == ("10.9.0.0/24", "10.9.0.254")


@pytest.mark.parametrize(
    ("fields", "field", "status"),
    [
        ({"name": ""}, "name", 422),
        ({"name": "no spaces"}, "name", 422),
        ({"name": "host"}, "name", 409),
        ({"name": "default"}, "name", 409),
        ({"name": "x1", "subnet": "nonsense"}, "subnet", 422),
        ({"name": "x1", "subnet": "10.0.0.0/31"}, "subnet", 422),
        ({"name": "x1", "subnet": "127.0.0.0/16"}, "subnet", 422),
        ({"name": "x1", "subnet": "172.30.2.0/24"}, "subnet", 409),
        ({"name": "x1", "subnet": "10.9.0.0/24", "gateway": "10.8.0.1"}, "gateway", 422),
        ({"name": "x1", "colour": "red"}, "colour", 422),
    ],
)
def test_bad_input_names_the_field(
    site: Site, fields: dict[str, Any], field: str, status: int
) -> None:
    error = site.api().post("networks", fields, expect=status)
    assert error["extra"]["field"] == field
    assert Network.objects.count() == 1


def test_a_network_in_use_stays_and_so_does_the_default_one(site: Site) -> None:
    site.api().post("networks", {"name": "backend"})
    site.make("db", network="backend")
    error = site.api().delete("networks/backend", expect=409)
    assert (error["code"], error["extra"]["members"]) == ("network_in_use", ["db"])
    site.api().delete("networks/default", expect=409)


def test_a_network_is_removed_by_the_worker(site: Site) -> None:
    site.api().post("networks", {"name": "backend"})

    def work(operation: Operation) -> dict[str, Any]:
        network_delete_row(network_id=operation.target_id)
        return {}

    site.work = work
    site.api().delete("networks/backend?wait=true", expect=200)
    assert Network.objects.count() == 1


def test_no_container_joins_a_network_that_is_being_removed(site: Site) -> None:
    site.api().post("networks", {"name": "backend"})
    site.api().delete("networks/backend")
    body = {"image": "slipway/starter", "network": "backend"}
    assert site.api().post("containers", body, expect=409)["extra"]["field"] == "network"


def test_who_may_only_look_changes_nothing(site: Site) -> None:
    for api, expect in ((site.api("viewer"), 403), (site.stranger(), 401)):
        api.post("networks", {"name": "other"}, expect=expect)
        api.delete("networks/default", expect=expect)
    site.stranger().get("networks", expect=401)


def test_a_removal_that_is_waited_for_answers_how_it_ended(site: Site) -> None:
    site.work = lambda operation: {"id": operation.target_id}
    site.api().post("networks?wait=true", {"name": "gone"}, expect=201)
    ended = site.api().delete("networks/gone?wait=true", expect=200)
    assert (ended["status"], ended["error"]) == ("succeeded", None)
