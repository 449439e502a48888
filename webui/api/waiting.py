"""Waiting for the end of a container, as `docker wait` does: by the rows that are published, no polling."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from contextlib import suppress
from typing import Literal

from asgiref.sync import sync_to_async
from typing_extensions import TypedDict

from runtime.model.state import Status
from webui.containers.models import Container
from webui.core.payloads import stamp
from webui.live.hub import Hub

Condition = Literal["not-running", "next-exit", "removed"]

_LOOK = 2.0  # seconds after which the database is looked at although nothing was published


class ContainerEnd(TypedDict):
    exit_code: int | None
    oom_killed: bool
    error: str
    finished_at: str | None


class Change:
    """A hub's listener that only tells that something is new."""

    def __init__(self) -> None:
        self.happened = asyncio.Event()

    def deliver(self, topic: str, key: Hashable, text: str) -> None:
        self.happened.set()

    def resync(self) -> None:
        self.happened.set()


async def wait_for_end(container: Container, condition: Condition) -> ContainerEnd:
    """{"exit_code", "oom_killed", "error", "finished_at"} of the end that was waited for."""
    hub, change, topic = Hub.current(), Change(), f"container:{container.pk}"
    await hub.subscribe(topic, change)
    try:
        known, before = _end(container), container.finished_at
        while True:
            change.happened.clear()
            now = await sync_to_async(_find)(container.pk)
            if now is None:
                return known  # gone, and with it every other reason to wait
            known = _end(now)
            if condition == "not-running" and not Status(now.status).is_active:
                return known
            if condition == "next-exit" and now.finished_at != before:
                return known
            with suppress(TimeoutError):
                await asyncio.wait_for(change.happened.wait(), _LOOK)
    finally:
        await hub.unsubscribe(topic, change)


def _find(container_id: str) -> Container | None:
    return Container.objects.filter(pk=container_id).first()


def _end(container: Container) -> ContainerEnd:
    return {
        "exit_code": container.exit_code,
        "oom_killed": container.oom_killed,
        "error": container.exit_error,
        "finished_at": stamp(container.finished_at),
    }
