"""Statements whose SQL is made once answer as Django's own do, also the second time and with other arguments."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import F, QuerySet
from django.test.utils import CaptureQueriesContext

from webui.core.prepared import first, insert, prepared, prepared_update
from webui.hosts.models import Host
from webui.networks.models import Network
from webui.operations.models import Event, Operation

pytestmark = pytest.mark.django_db
WHEN = datetime(2026, 11, 27, 12, 30, tzinfo=UTC)


@prepared
def _of_kinds(host_id: str, kinds: list[str]) -> QuerySet[Operation]:
    found = Operation.objects.filter(host_id=host_id, kind__in=kinds)
    return found.select_related("host").order_by("kind")


@prepared
def _since(operation_id: UUID, when: datetime) -> QuerySet[Operation, tuple[str, Any]]:
    found = Operation.objects.filter(pk=operation_id, heartbeat__gte=when)
    return found.values_list("kind", "result")


@prepared_update
def _write(
    operation_id: UUID, result: Any, error: Any, now: datetime
) -> tuple[QuerySet[Operation], dict[str, Any]]:
    values = {"result": result, "error": error, "heartbeat": now, "attempts": F("attempts") + 1}
    return Operation.objects.filter(pk=operation_id), values


@pytest.fixture
def host() -> Host:
    return Host.objects.create(id="a" * 32, name="here")


def _operation(host: Host, kind: str) -> Operation:
    return Operation.objects.create(host=host, kind=kind, target_type="container")


def test_rows_are_those_of_the_arguments_of_each_call(host: Host) -> None:
    for kind in ("a", "b", "c"):
        _operation(host, kind)
    assert [row.kind for row in _of_kinds(host.pk, ["a", "c"])] == ["a", "c"]
    assert [row.kind for row in _of_kinds(host.pk, ["b", "x"])] == ["b"]
    assert [row.kind for row in _of_kinds(host.pk, ["a", "b", "c"])] == ["a", "b", "c"]
    assert _of_kinds("b" * 32, ["a", "b"]) == []


def test_rows_are_whole_models_with_what_was_selected_beside_them(host: Host) -> None:
    _operation(host, "a")
    found = first(_of_kinds(host.pk, ["a"]))
    assert found is not None
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert found.host.name == "here"
        assert found.params == {}
        assert found.created_at.tzinfo is not None
    assert not queries


def test_nothing_is_asked_when_no_row_can_match(host: Host) -> None:
    _operation(host, "a")
    with CaptureQueriesContext(connection) as queries:
        assert _of_kinds(host.pk, []) == []
    assert not queries


def test_an_update_sets_what_it_is_given_and_counts_the_rows(host: Host) -> None:
    operation = _operation(host, "a")
    assert _write(operation.pk, {"id": "1"}, None, WHEN) == 1
    assert _write(uuid4(), {}, {"code": "x"}, WHEN) == 0
    operation.refresh_from_db()
    assert (operation.result, operation.error) == ({"id": "1"}, None)
    assert (operation.heartbeat, operation.attempts) == (WHEN, 1)
    assert not Operation.objects.filter(error__isnull=False).exists()
    assert _since(operation.pk, WHEN) == [("a", {"id": "1"})]
    assert _since(operation.pk, WHEN.replace(hour=13)) == []


@prepared
def _on_hosts(host_ids: list[str]) -> QuerySet[Operation]:
    return Operation.objects.filter(host_id__in=host_ids)


@prepared
def _of_hosts(host_ids: list[str]) -> QuerySet[Operation]:
    return Operation.objects.filter(host__pk__in=host_ids)


def test_a_list_that_would_be_lost_on_a_foreign_key_is_an_error(host: Host) -> None:
    operation = _operation(host, "a")
    with pytest.raises(TypeError, match="__pk__in"):
        _on_hosts([host.pk])
    assert _of_hosts([host.pk, "b" * 32]) == [operation]


def test_what_one_thread_has_prepared_another_one_uses_with_its_own_connection(host: Host) -> None:
    _of_kinds(host.pk, ["a"])
    seen: list[Any] = []

    def look() -> None:
        try:
            connection.ensure_connection()
            with CaptureQueriesContext(connection) as queries:
                _of_kinds("a" * 32, ["a"])
            seen.append(len(queries))
        finally:
            connection.close()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [1]


def test_new_rows_are_written_with_their_defaults_and_get_their_keys(host: Host) -> None:
    events = [Event(host=host, time=WHEN, type="x", target_type="container") for _ in range(2)]
    network = Network(host=host, name="web", subnet="172.30.0.0/22", gateway="172.30.0.1")
    insert(*events, network)
    assert [event.pk for event in Event.objects.order_by("pk")] == [event.pk for event in events]
    stored = Network.objects.get(name="web")
    assert (stored.pk, stored.labels, stored.created_at) == (network.pk, {}, network.created_at)
    network.name = "other"
    network.save()  # a row that exists from now on
    assert Network.objects.get().name == "other"


def test_a_row_that_clashes_is_refused(host: Host) -> None:
    insert(Network(host=host, name="web", subnet="172.30.0.0/22", gateway="172.30.0.1"))
    with pytest.raises(IntegrityError), transaction.atomic():
        insert(Network(host=host, name="web", subnet="172.30.4.0/22", gateway="172.30.4.1"))
    assert Network.objects.count() == 1
