"""/api/v1/volumes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.web import Site
from webui.operations.models import Operation
from webui.volumes.models import Volume
from webui.volumes.services import volume_delete_row


def test_a_volume_is_made_and_found(site: Site) -> None:
    site.work = lambda operation: {"name": operation.target_name}
    api = site.api()
    row = api.post("volumes?wait=true", {"name": "data", "labels": {"a": "b"}}, expect=201)
    assert (row["id"], row["labels"], row["anonymous"]) == ("data", {"a": "b"}, False)
    assert api.get("volumes/data")["containers"] == []
    assert [v["name"] for v in api.get("volumes")] == ["data"]
    api.get("volumes/other", expect=404)


@pytest.mark.parametrize("name", ["", "../etc", "a/b", ".hidden", "x" * 200])
def test_a_bad_name_is_named(site: Site, name: str) -> None:
    error = site.api().post("volumes", {"name": name}, expect=422)
    assert error["extra"]["field"] == "name"
    assert not Volume.objects.exists()


def test_a_taken_name_is_a_conflict(site: Site) -> None:
    site.api().post("volumes", {"name": "data"})
    error = site.api().post("volumes", {"name": "data"}, expect=409)
    assert (error["code"], error["extra"]["field"]) == ("already_exists", "name")


def test_a_volume_that_a_container_mounts_is_not_removed(site: Site) -> None:
    site.make("web", volumes=["data:/data:ro"])
    (row,) = site.api().get("volumes")
    assert row["containers"][0]["target"] == "/data"
    assert row["containers"][0]["read_only"] is True
    error = site.api().delete("volumes/data", expect=409)
    assert error["code"] == "volume_in_use"
    assert error["extra"]["holders"] == ["web"]


def test_a_volume_is_removed_by_the_worker(site: Site) -> None:
    site.api().post("volumes", {"name": "data"})

    def work(operation: Operation) -> dict[str, Any]:
        volume_delete_row(host=site.host, name=operation.target_name)
        return {}

    site.work = work
    site.api().delete("volumes/data?wait=true", expect=200)
    assert not Volume.objects.exists()


def test_no_container_gets_a_volume_that_is_being_removed(site: Site) -> None:
    site.api().post("volumes", {"name": "data"})
    site.api().delete("volumes/data")
    body = {"image": "slipway/starter", "volumes": ["data:/data"]}
    error = site.api().post("containers", body, expect=409)
    assert error["extra"]["field"] == "mounts"


def test_who_may_only_look_changes_nothing(site: Site) -> None:
    site.api().post("volumes", {"name": "data"})
    for api, expect in ((site.api("viewer"), 403), (site.stranger(), 401)):
        api.post("volumes", {"name": "other"}, expect=expect)
        api.delete("volumes/data", expect=expect)
    assert site.api("viewer").get("volumes/data")["name"] == "data"
    site.stranger().get("volumes", expect=401)


def test_a_removal_that_is_waited_for_answers_how_it_ended(site: Site) -> None:
    site.work = lambda operation: {"id": operation.target_id}
    site.api().post("volumes?wait=true", {"name": "gone"}, expect=201)
    ended = site.api().delete("volumes/gone?wait=true", expect=200)
    assert (ended["status"], ended["error"]) == ("succeeded", None)
