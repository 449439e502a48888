"""Writes to operations and events. A worker claims by compare-and-set; nobody holds a lock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from runtime.errors import BadState, Cancelled
from webui.accounts.models import User
from webui.core import dispatch
from webui.core.payloads import event_row, operation_row
from webui.core.prepared import insert, prepared, prepared_update
from webui.core.publish import publish, publish_row
from webui.core.rows import ContainerRow
from webui.hosts.models import Host
from webui.operations.models import Event, Operation


def operation_create(
    *,
    host: Host,
    kind: str,
    target_type: str,
    target_id: str = "",
    target_name: str = "",
    user: User | None = None,
    via: str = "ui",
    params: dict[str, Any] | None = None,
    operation_id: UUID | None = None,
) -> Operation:
    """Record what was asked for; once the transaction commits it is sent to the host and published."""
    operation = Operation(
        id=operation_id or uuid4(),
        host=host,
        kind=kind,
        target_type=target_type,
        target_id=target_id,
        target_name=target_name,
        user=user,
        via=via,
        params=params or {},
    )
    insert(operation)
    transaction.on_commit(lambda: _commence(operation))
    return operation


def _commence(operation: Operation) -> None:
    dispatch.send(operation)
    publish_operation(operation)


def publish_operation(operation: Operation) -> None:
    """The row to the list of operations, and to who watches just this one."""
    row = operation_row(operation)
    publish_row("operations", row)
    publish(f"operation:{operation.pk}", "row", row)


def operation_claim(*, operation_id: str, worker: str, kind: str = "") -> Operation | None:
    """Take a pending operation for `worker`; None when somebody has it, it has ended, or is not of this `kind`."""
    now = timezone.now()
    if _claim(UUID(operation_id), [kind] if kind else [], worker, now) != 1:
        return None
    operation = _operation(UUID(operation_id))[0]
    publish_operation(operation)
    return operation


@prepared_update
def _claim(
    operation_id: UUID, kinds: list[str], worker: str, now: datetime
) -> tuple[QuerySet[Operation], dict[str, Any]]:
    waiting = Operation.objects.filter(pk=operation_id, status=Operation.Status.PENDING)
    return waiting.filter(kind__in=kinds) if kinds else waiting, {
        "status": Operation.Status.RUNNING,
        "claimed_by": worker,
        "started_at": now,
        "heartbeat": now,
        "attempts": F("attempts") + 1,
    }


@prepared
def _operation(operation_id: UUID) -> QuerySet[Operation]:
    found = Operation.objects.filter(pk=operation_id).order_by()
    return found.select_related("host", "user").defer("host__facts", "host__unmanaged")


def operation_progress(*, operation: Operation, progress: dict[str, Any]) -> None:
    """Note how far it is, and that its worker lives."""
    operation.progress = progress
    operation.heartbeat = timezone.now()
    Operation.objects.filter(pk=operation.pk, status=Operation.Status.RUNNING).update(
        progress=progress, heartbeat=operation.heartbeat
    )
    publish_operation(operation)


def operation_succeed(*, operation: Operation, result: dict[str, Any]) -> Operation:
    return _end(operation, Operation.Status.SUCCEEDED, result=result, error=None)


def operation_fail(*, operation: Operation, error: dict[str, Any]) -> Operation:
    """`error` is an EngineError's payload; one that says "cancelled" ends the operation as such."""
    cancelled = error.get("code") == Cancelled.code
    status = Operation.Status.CANCELLED if cancelled else Operation.Status.FAILED
    return _end(operation, status, result={}, error=error)


def _end(
    operation: Operation, status: Operation.Status, *, result: dict[str, Any], error: Any
) -> Operation:
    """An operation ends once: whoever comes second changes nothing."""
    operation.status, operation.result, operation.error = status, result, error
    operation.finished_at = timezone.now()
    operation.params.pop(Operation.SEALED, None)
    with transaction.atomic():
        if operation.write_seen is not None:
            operation.write_seen()
        changed = _write_end(
            operation.pk, status, result, error, operation.finished_at, operation.params
        )
    publish_container, row = _container_news(operation)
    if changed == 1:
        # First of all: somebody may be waiting for just this.
        dispatch.announce(operation, row)
        publish_operation(operation)
    else:
        operation = _operation(operation.pk)[0]
    publish_container()
    return operation


@prepared_update
def _write_end(
    operation_id: UUID, status: Any, result: Any, error: Any, finished_at: datetime, params: Any
) -> tuple[QuerySet[Operation], dict[str, Any]]:
    return Operation.objects.filter(pk=operation_id, status__in=Operation.LIVE), {
        "status": status,
        "result": result,
        "error": error,
        "finished_at": finished_at,
        "params": params,
    }


def _container_news(operation: Operation) -> tuple[Callable[[], None], ContainerRow | None]:
    """The container's row, which says what is under way and so changes when that ends; how to publish it."""
    from webui.containers.showing import container_news  # noqa: PLC0415 - they need each other

    if operation.target_type != "container":
        return lambda: None, None
    return container_news(container_id=operation.target_id, container=operation.seen)


def operation_cancel(*, operation: Operation, user: User | None) -> Operation:
    """Ask for a cancellation. One nobody has begun ends at once; a running one at its next step.

    Raises BadState when it has ended.
    """
    now = timezone.now()
    error = Cancelled("The operation was cancelled.", by=user.get_username() if user else "")
    unsealed = {name: value for name, value in operation.params.items() if name != Operation.SEALED}
    pending = Operation.objects.filter(pk=operation.pk, status=Operation.Status.PENDING)
    if pending.update(
        status=Operation.Status.CANCELLED,
        cancel_requested=True,
        finished_at=now,
        error=error.payload(),
        params=unsealed,
    ):
        operation.refresh_from_db()
        dispatch.announce(operation)
        _withdrawn(operation)
        publish_operation(operation)
        return operation
    running = Operation.objects.filter(pk=operation.pk, status=Operation.Status.RUNNING)
    if not running.update(cancel_requested=True):
        operation.refresh_from_db()
        raise BadState("cancel", operation.status, ())
    operation.refresh_from_db()
    publish_operation(operation)
    return operation


def _withdrawn(operation: Operation) -> None:
    """A creation or a connection that never began reserves nothing."""
    if operation.kind == "container.create":
        from webui.containers.replica import container_delete_row  # noqa: PLC0415

        container_delete_row(container_id=operation.target_id)
    elif operation.kind == "container.connect":
        from webui.containers.connecting import container_connect_withdrawn  # noqa: PLC0415

        container_connect_withdrawn(operation=operation)


def event_record(
    *,
    host: Host,
    type: str,  # noqa: A002 - the field's name
    target_type: str,
    target_id: str = "",
    target_name: str = "",
    user: User | None = None,
    data: dict[str, Any] | None = None,
    time: datetime | None = None,
) -> Event:
    """Record a fact and publish it."""
    event = Event(
        host=host,
        time=time or timezone.now(),
        type=type,
        target_type=target_type,
        target_id=target_id,
        target_name=target_name,
        user=user,
        data=data or {},
    )
    insert(event)
    transaction.on_commit(lambda: publish("events", "event", event_row(event)))
    return event
