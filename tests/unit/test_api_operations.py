"""/api/v1/operations, /api/v1/events and /api/v1/hosts: what happened, and where."""

from __future__ import annotations

import uuid

from tests.support.web import Site
from webui.containers.models import Container
from webui.operations.models import Operation
from webui.operations.services import event_record, operation_claim, operation_succeed


def test_operations_are_listed_newest_first_and_filtered(site: Site) -> None:
    first = site.make("one")
    second = site.make("two")
    api = site.api("viewer")
    assert [o["target_name"] for o in api.get("operations")] == ["two", "one"]
    assert [o["target_id"] for o in api.get(f"operations?target={first.pk}")] == [first.pk]
    assert len(api.get("operations?status=pending&limit=1")) == 1
    assert api.get("operations?status=failed") == []
    assert api.get("operations?offset=1")[0]["target_id"] != second.pk
    assert api.get(f"operations?offset={10**24}") == []
    assert api.get(f"events?offset={10**24}") == []


def test_one_operation_shows_progress_and_result(site: Site) -> None:
    site.make("one")
    operation = Operation.objects.get()
    row = site.api("viewer").get(f"operations/{operation.pk}")
    assert (row["status"], row["user"], row["via"]) == ("pending", "operator", "ui")
    site.api().get(f"operations/{uuid.uuid4()}", expect=404)
    error = site.api().get("operations/nonsense", expect=422)
    assert error["extra"]["field"] == "operation_id"


def test_cancelling_what_nobody_began_ends_it_and_frees_what_it_claimed(site: Site) -> None:
    site.make("one", ports=["80:80"])
    operation = Operation.objects.get()
    row = site.api().post(f"operations/{operation.pk}/cancel", expect=200)
    assert row["status"] == "cancelled"
    assert row["error"]["code"] == "cancelled"
    assert not Container.objects.exists()
    site.make("one", ports=["80:80"])


def test_cancelling_a_running_one_asks_its_worker(site: Site) -> None:
    site.make("one")
    operation = Operation.objects.get()
    operation_claim(operation_id=str(operation.pk), worker="w")
    row = site.api().post(f"operations/{operation.pk}/cancel", expect=200)
    assert (row["status"], row["cancel_requested"]) == ("running", True)
    operation_succeed(operation=operation, result={})
    error = site.api().post(f"operations/{operation.pk}/cancel", expect=409)
    assert error["code"] == "bad_state"


def test_who_may_only_look_cancels_nothing(site: Site) -> None:
    site.make("one")
    path = f"operations/{Operation.objects.get().pk}/cancel"
    site.api("viewer").post(path, expect=403)
    site.stranger().post(path, expect=401)
    assert Operation.objects.get().status == "pending"


def test_events_are_listed_newest_first_and_filtered(site: Site) -> None:
    for kind in ("container.started", "container.exited", "image.added"):
        target = kind.partition(".")[0]
        event_record(host=site.host, type=kind, target_type=target, target_id="x", data={"n": 1})
    api = site.api("viewer")
    assert api.get("events")[0]["type"] == "image.added"
    assert len(api.get("events?type=container.")) == 2
    assert api.get("events?target=nothing") == []
    everything = api.get("events")
    assert api.get("events?since=1h") == everything
    assert api.get("events?until=2020-01-01T00:00:00Z") == api.get("events?since=4000000000") == []
    middle = everything[1]["time"]
    assert api.get(f"events?until={middle}")[0]["time"] <= middle
    for wrong in ("nan", "1e30", "soon"):
        assert api.get(f"events?since={wrong}", expect=422)["extra"]["field"] == "since"
    site.stranger().get("events", expect=401)


def test_hosts_are_listed(site: Site) -> None:
    (row,) = site.api("viewer").get("hosts")
    assert row["id"] == site.host.pk
    site.stranger().get("hosts", expect=401)
