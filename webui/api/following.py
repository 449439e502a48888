"""Following a log until the container has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from asgiref.sync import sync_to_async

from runtime.model.state import Status
from webui.containers.models import Container

# Seconds of silence after which the container's state is looked at: soon at first, since what runs
# briefly has often ended by then.
_LOOKS = (0.02, 0.05, 0.1, 0.2, 0.5)
# Its last lines are on disk before it is shown as ended; this long, in seconds, they may be on their way.
_LAST = 0.05


async def until_exit(container_id: str, batches: Any) -> AsyncIterator[list[dict[str, Any]]]:
    """Pass batches on; end when the container is down and nothing more has come."""
    iterator = aiter(batches)
    pending = asyncio.ensure_future(anext(iterator))
    silent = 0  # looks in a row that found nothing new
    ended = False
    try:
        while True:
            wait = _LAST if ended else _LOOKS[min(silent, len(_LOOKS) - 1)]
            done, _ = await asyncio.wait({pending}, timeout=wait)
            if done:
                silent = 0
                try:
                    yield pending.result()
                except StopAsyncIteration:
                    return
                pending = asyncio.ensure_future(anext(iterator))
            elif ended:
                return
            else:
                silent += 1
                ended = not await _is_active(container_id)
    finally:
        pending.cancel()
        with suppress(asyncio.CancelledError, StopAsyncIteration, Exception):
            await pending
        await batches.aclose()


@sync_to_async
def _is_active(container_id: str) -> bool:
    status = Container.objects.filter(pk=container_id).values_list("status", flat=True).first()
    return status is not None and Status(status).is_active
