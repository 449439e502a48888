"""What hosts report becomes rows: only differences are written, and each change is an event."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from runtime.model.state import ExitRecord, HealthState, Observed, RunState, Status
from tests.support.web import Site
from webui.advisor.models import Silence
from webui.containers.models import Container
from webui.containers.replica import (
    container_apply_observed,
    container_delete_row,
    container_missing,
    container_take_observed,
    container_usage,
)
from webui.containers.selectors import container_whole, containers
from webui.containers.services import container_rename
from webui.core import publish
from webui.core.payloads import container_row
from webui.operations.models import Event
from webui.volumes.models import Volume
from webui.volumes.services import volume_create, volumes_made

RUN = RunState(status=Status.RUNNING, boot_id="b", pid=42, started_at=1000.5)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = []
    monkeypatch.setattr(publish, "group_send", lambda group, event: said.append(event["message"]))
    return said


def seen(container: Container, run: RunState) -> Container:
    return container_apply_observed(
        container_id=container.pk, observed=Observed(container.pk, run.status, run)
    )


def kinds() -> list[str]:
    return list(Event.objects.order_by("id").values_list("type", flat=True))


def test_a_start_is_written_once_with_an_event_and_a_row(
    site: Site, published: list[dict[str, Any]]
) -> None:
    container = site.make("web")
    published.clear()
    now = seen(container, RUN)
    assert (now.status, now.pid, now.present) == ("running", 42, True)
    assert now.revision == container.revision + 1
    assert kinds() == ["container.started"]
    rows = [m for m in published if m["type"] == "row"]
    assert {m["topic"] for m in rows} == {"containers", f"container:{container.pk}"}
    assert rows[0]["rev"] == now.revision
    published.clear()
    assert seen(container, RUN).revision == now.revision
    assert published == []


def test_an_end_has_its_code_and_reason(site: Site) -> None:
    container = site.make("web")
    seen(container, RUN)
    end = ExitRecord(
        code=137, reason="oom_killed", started_at=1000.5, finished_at=1002, oom_killed=True
    )
    gone = replace(RUN, status=Status.EXITED, pid=0, finished_at=1002.0, exit=end)
    now = seen(container, gone)
    assert (now.exit_code, now.exit_reason, now.oom_killed) == (137, "oom_killed", True)
    assert kinds() == ["container.started", "container.oom_killed"]
    assert Event.objects.order_by("id").last().data["ran_for"] == 1.5  # type: ignore[union-attr]
    seen(container, gone)
    assert len(kinds()) == 2
    again = seen(container, replace(RUN, started_at=1010.0))
    assert (again.exit_code, again.oom_killed) == (None, False)
    assert kinds()[-1] == "container.started"


def test_pausing_health_and_loss_are_seen(site: Site) -> None:
    container = site.make("web")
    seen(container, RUN)
    seen(container, replace(RUN, status=Status.PAUSED))
    seen(container, RUN)
    now = seen(container, replace(RUN, health=HealthState(status="healthy")))
    assert now.health["status"] == "healthy"
    assert kinds() == ["container.started", "container.paused", "container.unpaused"]
    container_missing(container_id=container.pk)
    container.refresh_from_db()
    assert (container.status, container.present) == ("unknown", False)


def test_usage_is_merged_and_makes_advice(site: Site) -> None:
    container = site.make("web", limits={"memory": "64m", "cpus": 1})
    container_usage(container_id=container.pk, usage={"oom_kills": 1})
    container_usage(container_id=container.pk, usage={"throttled_share": 0.5})
    row = container_row(Container.objects.get(pk=container.pk))
    assert {a["rule"] for a in row["advice"]} == {"oom-killed", "throttled"}


def test_what_two_see_at_once_is_recorded_once(site: Site) -> None:
    known = containers().get(pk=site.make("web").pk)
    observed = Observed(known.pk, RUN.status, RUN)
    write = container_take_observed(container=known, observed=observed)
    assert write is not None
    seen(known, RUN)
    container_usage(container_id=known.pk, usage={"oom_kills": 1})
    write()
    stored = Container.objects.get(pk=known.pk)
    assert kinds() == ["container.started"]
    assert (known.status, known.usage) == ("running", {"oom_kills": 1})
    assert known.revision == stored.revision


def test_what_somebody_else_has_written_meanwhile_does_not_keep_a_change_from_being_written(
    site: Site,
) -> None:
    known = containers().get(pk=site.make("web").pk)
    write = container_take_observed(container=known, observed=Observed(known.pk, RUN.status, RUN))
    container_usage(container_id=known.pk, usage={"oom_kills": 1})
    assert write is not None
    write()
    assert kinds() == ["container.started"]
    assert Container.objects.get(pk=known.pk).status == "running"
    Container.objects.all().delete()
    write()  # of what has gone there is nothing to say
    assert kinds() == ["container.started"]


def test_a_container_nobody_knows_is_an_error(site: Site) -> None:
    with pytest.raises(Container.DoesNotExist):
        container_apply_observed(
            container_id="0" * 64, observed=Observed("0" * 64, RUN.status, RUN)
        )


def test_volumes_say_who_mounts_them_as_soon_as_that_changes(
    site: Site, published: list[dict[str, Any]]
) -> None:
    container = site.make("web", volumes=["data:/data"])
    rows = [m["data"] for m in published if m["topic"] == "volumes"]
    assert [[c["name"] for c in row["containers"]] for row in rows] == [["web"]]
    published.clear()
    volumes_made(host=site.host, names=["data"])
    container_delete_row(container_id=container.pk)
    topics = [(m["topic"], m["type"]) for m in published]
    assert ("containers", "gone") in topics
    rows = [m["data"] for m in published if m["topic"] == "volumes"]
    assert [row["containers"] for row in rows] == [[]]


def test_images_and_networks_say_who_uses_them_as_soon_as_that_changes(
    site: Site, published: list[dict[str, Any]]
) -> None:
    def users(topic: str) -> list[list[str]]:
        rows = [m["data"] for m in published if m["topic"] == topic]
        return [[c["name"] for c in row["containers"]] for row in rows]

    container = site.make("web")
    assert users("images") == users("networks") == [["web"]]
    published.clear()
    container_rename(container=container, name="www", user=None, via="api")
    assert users("images") == users("networks") == [["www"]]
    published.clear()
    container_delete_row(container_id=container.pk)
    assert users("images") == users("networks") == [[]]


def test_a_volume_that_was_never_made_goes_with_who_wanted_it(
    site: Site, published: list[dict[str, Any]]
) -> None:
    one, other = (site.make(name, volumes=["data:/data"]) for name in ("one", "other"))
    container_delete_row(container_id=one.pk)
    assert Volume.objects.count() == 1
    published.clear()
    container_delete_row(container_id=other.pk)
    assert not Volume.objects.exists()
    assert ("volumes", "gone") in [(m["topic"], m["type"]) for m in published]


def test_a_volume_that_is_being_made_stays(site: Site) -> None:
    volume_create(host=site.host, name="data", user=None, via="api")
    container_delete_row(container_id=site.make("web", volumes=["data:/data"]).pk)
    assert Volume.objects.count() == 1


def test_one_that_is_read_for_its_row_is_as_among_all_in_as_many_queries(site: Site) -> None:
    other, container = site.make("other"), site.make("web")
    Silence.objects.create(container=other, rule="no_limits", reason="theirs")
    for rule in ("no_memory_limit", "writes_outside"):
        Silence.objects.create(container=container, rule=rule, reason="ours")
        expected = containers().get(pk=container.pk)
        with CaptureQueriesContext(
            connection,
        ) as queries:
            found = container_whole(container.pk)
            assert found is not None
            assert {s.rule for s in found.silences.all()} == {
                s.rule for s in expected.silences.all()
            }
            assert [e.network.name for e in found.endpoints.all()] == ["default"]
            assert (found.host.name, found.image) == (expected.host.name, expected.image)
        assert len(queries) == 3
        assert container_row(found) == container_row(expected)
    assert container_whole("0" * 64) is None
