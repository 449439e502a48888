"""What a topic looks like now: the first thing a browser gets, and what it gets again after a loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from channels.db import database_sync_to_async

from runtime.errors import NotFound
from webui.containers.selectors import containers
from webui.core import payloads
from webui.images.selectors import images
from webui.live import topics
from webui.networks.selectors import networks
from webui.operations.models import Event, Operation
from webui.volumes.services import volumes

RECENT = 100  # operations and events; a page with older ones asks for them itself

Row = Mapping[str, Any]


def _containers() -> Sequence[Row]:
    return payloads.container_rows(containers())


def _images() -> Sequence[Row]:
    return [payloads.image_row(image) for image in images()]


def _volumes() -> Sequence[Row]:
    return [payloads.volume_row(volume) for volume in volumes()]


def _networks() -> Sequence[Row]:
    return [payloads.network_row(network) for network in networks()]


def _operations() -> Sequence[Row]:
    operations = Operation.objects.select_related("user")[:RECENT]
    return [payloads.operation_row(operation) for operation in operations]


def _events() -> Sequence[Row]:
    events = Event.objects.select_related("user")[:RECENT]
    return [payloads.event_row(event) for event in events]


_LISTS: dict[str, Callable[[], Sequence[Row]]] = {
    "containers": _containers,
    "images": _images,
    "volumes": _volumes,
    "networks": _networks,
    "operations": _operations,
    "events": _events,
}


def _container(container_id: str) -> Row:
    container = containers().filter(pk=container_id).first()
    if container is None:
        raise NotFound(f"There is no container {container_id[:12]}.")
    return payloads.container_row(container)


def _operation(operation_id: str) -> Row:
    operation = Operation.objects.select_related("user").filter(pk=operation_id).first()
    if operation is None:
        raise NotFound("There is no such operation.")
    return payloads.operation_row(operation)


@database_sync_to_async
def snapshot(topic: str) -> Sequence[Row] | Row:
    """The rows of a list's topic, or the row of one object. Raises NotFound when that is gone."""
    if topic in _LISTS:
        return _LISTS[topic]()
    of_one = _operation if topic.startswith("operation:") else _container
    return of_one(topics.object_id(topic))
