"""Following a log until the container has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from asgiref.sync import sync_to_async

from runtime.model.state import Status
from webui.containers.models import Container

_LOOK = 0.5  # seconds of silence after which the container's state is looked at


async def until_exit(container_id: str, batches: Any) -> AsyncIterator[list[dict[str, Any]]]:
    """Pass batches on; end when the container is down and nothing more has come."""
    iterator = aiter(batches)
    pending = asyncio.ensure_future(anext(iterator))
    try:
        while True:
            done, _ = await asyncio.wait({pending}, timeout=_LOOK)
            if done:
                try:
                    yield pending.result()
                except StopAsyncIteration:
                    return
                pending = asyncio.ensure_future(anext(iterator))
            elif not await _is_active(container_id):
                return
    finally:
        pending.cancel()
        with suppress(asyncio.CancelledError, StopAsyncIteration, Exception):
            await pending
        await batches.aclose()


@sync_to_async
def _is_active(container_id: str) -> bool:
    status = Container.objects.filter(pk=container_id).values_list("status", flat=True).first()
    return status is not None and Status(status).is_active
