"""/api/v1/containers/{key}/archive, …/changes: a container's files, as `docker cp` and `docker diff` have them."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from ninja import Query, Router

from webui.api.auth import operator
from webui.containers.models import Container
from webui.containers.selectors import container_find
from webui.live import stream_client

router = Router()

_STAT = "X-Slipway-Path-Stat"


@router.get("/{key}/archive", response=Any)
async def container_archive(request: HttpRequest, key: str, path: str) -> Any:
    """What is at `path` and below as a tar stream, whether the container runs or not.

    The header X-Slipway-Path-Stat is base64 of JSON: {name, size, mode, mtime, link_target}, `mode` as stat(2)
    has it, `mtime` in Unix seconds. A link as the last part of the path is not followed, except with "/" or
    "/." behind it. A stream that breaks off has no end in the sense of HTTP: what came is not whole. A container
    that does not run cannot be started meanwhile.
    """
    container = await sync_to_async(_allowed)(request, key)
    messages = stream_client.copy_out(container.pk, path)
    # What goes wrong at the beginning is still an answer with a number.
    stat = (await anext(messages))["data"]
    answer = StreamingHttpResponse(_blocks(messages), content_type="application/x-tar")
    answer[_STAT] = _encoded(stat)
    return answer


@router.api_operation(["HEAD"], "/{key}/archive", response=Any)
async def container_archive_stat(request: HttpRequest, key: str, path: str) -> Any:
    """What is at `path`: the header X-Slipway-Path-Stat alone."""
    container = await sync_to_async(_allowed)(request, key)
    answer = HttpResponse(content_type="application/x-tar")
    answer[_STAT] = _encoded(await stream_client.stat_path(container.pk, path))
    return answer


@router.get("/{key}/export", response=Any)
async def container_export(request: HttpRequest, key: str) -> Any:
    """Its whole root file system as a tar stream, without what is in its volumes."""
    container = await sync_to_async(_allowed)(request, key)
    messages = stream_client.copy_out(container.pk, "/", export=True)
    await anext(messages)
    return StreamingHttpResponse(_blocks(messages), content_type="application/x-tar")


@router.get("/{key}/changes", response=Any)
async def container_changes(
    request: HttpRequest, key: str, limit: Annotated[int, Query(ge=1, le=100_000)] = 10_000
) -> Any:
    """What the container has changed outside its volumes, and would be lost with it: [{path, kind}].

    `kind` is modified, added or deleted. `limit`: so many at most.
    """
    container = await sync_to_async(_allowed)(request, key)
    return await stream_client.changes(container.pk, limit)


def _allowed(request: HttpRequest, key: str) -> Container:
    """Files may hold what only those may see who may run commands there."""
    operator(request)
    return container_find(key)


def _encoded(stat: dict[str, Any]) -> str:
    return base64.b64encode(json.dumps(stat).encode()).decode()


async def _blocks(messages: Any) -> AsyncIterator[bytes]:
    async with aclosing(messages):
        async for message in messages:
            yield base64.b64decode(message["data"])
