"""/api/v1/containers/{key}/archive, …/files, …/changes: a container's files, as `docker cp` and `docker diff` have them."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Annotated, Any, Literal

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse, UnreadablePostError
from django.utils.http import content_disposition_header
from ninja import Query, Router, Schema
from pydantic import Field

from webui.api.auth import operator
from webui.api.blocks import decoded_blocks
from webui.api.uploads import too_large
from webui.containers.execs import copy_record
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
    return await _streamed(
        messages,
        partial(_note, request, container, "files_read", path),
        "application/x-tar",
        lambda stat: f"{stat['name'].strip('/') or container.name}.tar",
    )


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
        if not received:  # the directory is there
            await sync_to_async(_note)(request, container, "files_written", query.path)
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
    note = partial(_note, request, container, "exported", "/")
    return await _streamed(messages, note, "application/x-tar", lambda _: f"{container.name}.tar")


class FilesQuery(Schema):
    """`after`: the last name that is known already; `limit`: so many at most."""

    path: str = "/"
    after: str = ""
    limit: int = Field(default=1000, ge=1, le=5000)


@router.get("/{key}/files", response=Any)
async def container_files(
    request: HttpRequest, key: str, query: Annotated[FilesQuery, Query()]
) -> Any:
    """What is in a directory: {path, in_layer, entries, deleted, more}, whether the container runs or not.

    `entries` are {name, kind, size, mode, uid, gid, user, group, mtime, link_target, leads_to, change}, by name:
    `kind` is file, directory, link, pipe, socket or device, `leads_to` that of what a link leads to, `change` added
    or modified where it is the container's own. `deleted` are names that the image has there. `path` is where the
    directory is when no link is followed; what is written there goes with the container when it is `in_layer`.
    """
    container = await sync_to_async(_allowed)(request, key)
    return await stream_client.list_files(
        container.pk, query.path, after=query.after, limit=query.limit
    )


@router.get("/{key}/files/content", response=Any)
async def container_file(
    request: HttpRequest, key: str, path: str, limit: Annotated[int | None, Query(ge=1)] = None
) -> Any:
    """The content of the file that `path` leads to, `limit` bytes at most; the header X-Slipway-Path-Stat as above."""
    container = await sync_to_async(_allowed)(request, key)
    messages = stream_client.read_file(container.pk, path, limit)
    note = partial(_note, request, container, "files_read", path)
    return await _streamed(messages, note, "application/octet-stream", lambda stat: stat["name"])


@router.get("/{key}/changes", response=Any)
async def container_changes(
    request: HttpRequest, key: str, limit: Annotated[int, Query(ge=1, le=100_000)] = 10_000
) -> Any:
    """What the container has changed outside its volumes, and would be lost with it: [{path, kind, size}].

    `kind` is modified, added or deleted, `size` the bytes of a file as it is now, null of what is none. `limit`: so
    many at most.
    """
    container = await sync_to_async(_allowed)(request, key)
    return await stream_client.changes(container.pk, limit)


def _allowed(request: HttpRequest, key: str) -> Container:
    """Files may hold what only those may see who may run commands there."""
    operator(request)
    return container_find(key)


def _note(
    request: HttpRequest,
    container: Container,
    kind: Literal["files_read", "files_written", "exported"],
    path: str,
) -> None:
    """An event says who does it, before a byte goes."""
    user, via = operator(request)
    copy_record(container=container, user=user, kind=kind, path=path, via=via)


def _encoded(stat: dict[str, Any]) -> str:
    return base64.b64encode(json.dumps(stat).encode()).decode()


async def _streamed(
    messages: AsyncGenerator[dict[str, Any], None],
    note: Callable[[], None],
    kind: str,
    name: Callable[[dict[str, Any]], str],
) -> StreamingHttpResponse:
    """An answer to be kept as a file, never shown as a page of ours."""
    # What goes wrong at the beginning is still an answer with a number.
    stat = (await anext(messages))["data"]
    await sync_to_async(note)()
    answer = StreamingHttpResponse(decoded_blocks(messages), content_type=kind)
    answer[_STAT] = _encoded(stat)
    # A container's names may hold anything; a header takes no line breaks.
    shown = re.sub(r"[\x00-\x1f\x7f]", "_", name(stat).encode("utf-8", "replace").decode())
    answer["Content-Disposition"] = content_disposition_header(True, shown) or "attachment"
    return answer
