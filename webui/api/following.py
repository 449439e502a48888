"""Streams that have begun before they are answered with, and that end with their container."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from typing import Any

from asgiref.sync import sync_to_async

from runtime.model.state import Status
from webui.containers.models import Container

Batch = list[dict[str, Any]]

_LOOK = 0.5  # seconds of silence after which the container's state is looked at
_PATIENCE = 0.2  # seconds for a first batch; long enough for the watcher to refuse


async def begin(
    batches: AsyncGenerator[Batch, None], followed: str | None
) -> AsyncGenerator[Batch, None]:
    """An iterator over `batches` that has begun. Raises what goes wrong at the beginning.

    `followed` is the id of the container whose end ends the stream; None for a stream that ends.
    """
    first = asyncio.ensure_future(_next(batches))
    await asyncio.wait({first}, timeout=_PATIENCE if followed else None)
    if first.done():
        first.result()
    return _rest(first, batches, followed)


async def _next(batches: AsyncIterator[Batch]) -> Batch | None:
    """The next batch, None at the end."""
    return await anext(batches, None)


async def _rest(
    pending: asyncio.Future[Batch | None],
    batches: AsyncGenerator[Batch, None],
    followed: str | None,
) -> AsyncGenerator[Batch, None]:
    try:
        while True:
            done, _ = await asyncio.wait({pending}, timeout=_LOOK if followed else None)
            if done:
                batch = pending.result()
                if batch is None:
                    return
                yield batch
                pending = asyncio.ensure_future(_next(batches))
            elif followed and not await _is_active(followed):
                return
    finally:
        pending.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await pending
        await batches.aclose()


@sync_to_async
def _is_active(container_id: str) -> bool:
    status = Container.objects.filter(pk=container_id).values_list("status", flat=True).first()
    return status is not None and Status(status).is_active
