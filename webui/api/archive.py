"""/api/v1/containers/{key}/archive, …/changes: a container's files, as `docker cp` and `docker diff` have them."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse, UnreadablePostError
from ninja import Query, Router, Schema
from pydantic import Field

from webui.api.auth import operator
from webui.api.uploads import too_large
from webui.containers.models import Container
from webui.containers.selectors import container_find
from webui.core.bodies import upload_of
from webui.core.errors import TooLarge
from webui.live import stream_client
from webui.live.copy_client import copy_in

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


class PutQuery(Schema):
    """The options have Docker's names."""

    path: str
    no_overwrite: bool = Field(default=False, alias="noOverwriteDirNonDir")
    keep_ids: bool = Field(default=False, alias="copyUIDGID")


@router.put("/{key}/archive", response=Any)
async def container_archive_put(
    request: HttpRequest, key: str, query: Annotated[PutQuery, Query()]
) -> Any:
    """Unpack the body, a tar stream (plain, gzip, bzip2 or xz), into the directory `path`: {members, bytes}.

    With `noOverwriteDirNonDir` no directory is replaced by something else, or the other way round; without
    `copyUIDGID` all belongs to root. A file is in its place when it is whole, until then what it replaces is
    there. An error says in `extra.written` what stays of a stream whose beginning was good; without that nothing was written.
    """
    container = await sync_to_async(_allowed)(request, key)
    body, limit = upload_of(request), settings.UPLOAD_LIMIT
    length = request.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) > limit:
        raise _too_large()
    received = 0

    async def take() -> bytes:
        nonlocal received
        block = await body.block()
        received += len(block)
        if received > limit:
            raise _too_large()
        return block

    options = {"no_overwrite": query.no_overwrite, "keep_ids": query.keep_ids}
    try:
        return await copy_in(container.pk, query.path, take, **options)
    except ConnectionResetError as error:
        raise UnreadablePostError("The upload broke off.") from error


def _too_large() -> TooLarge:
    return too_large("send it in parts", field="body")


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
