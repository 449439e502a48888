"""What is asked of a container, and what has happened to it, in the form that all of it has."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from webui.accounts.models import User
from webui.containers.models import Container
from webui.containers.showing import show
from webui.operations.models import Event, Operation
from webui.operations.services import event_record, operation_create


def container_ask(
    container: Container, kind: str, params: dict[str, Any], *, user: User | None, via: str
) -> Operation:
    """An operation on the container, shown on its row."""
    operation = operation_create(
        host=container.host,
        kind=kind,
        target_type="container",
        target_id=container.pk,
        target_name=container.name,
        user=user,
        via=via,
        params=params,
    )
    show(container, operation)
    return operation


def container_event(
    container: Container,
    kind: str,
    data: dict[str, Any],
    *,
    user: User | None = None,
    time: datetime | None = None,
) -> Event:
    """A fact about the container, of now unless `time` says otherwise."""
    return event_record(
        host=container.host,
        type=kind,
        target_type="container",
        target_id=container.pk,
        target_name=container.name,
        user=user,
        data=data,
        time=time,
    )
