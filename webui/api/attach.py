"""/api/v1/containers/{key}/attach, …/resize: the container's own process."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest
from ninja import Router, Schema, Status
from pydantic import Field

from webui.api.auth import operator, reader
from webui.api.execs import LIMIT
from webui.containers.execs import attach_record
from webui.containers.models import Container
from webui.containers.selectors import container_find
from webui.live import stream_client
from webui.live.exec_client import Exec, attach

router = Router()


class AttachBody(Schema):
    """Without `stdin` it is only looked at."""

    stdin: str | None = None
    end_of_input: bool = (
        True  # after that; it closes the process's when that was made so (stdin_once)
    )
    logs: int = Field(default=0, ge=0, le=10_000)  # so many lines from before come first
    timeout: float = Field(default=60.0, gt=0, le=3600)  # seconds; then it is left alone


@router.post("/{key}/attach", response=Any)
async def container_attach(request: HttpRequest, key: str, body: AttachBody) -> Any:
    """Give the container's own process input, and take its output until it ends or `timeout` has passed.

    Answers {exit_code, restarting, stdout, stderr, truncated}: `exit_code` is null when it goes on, `restarting`
    whether its policy starts it again. Of each stream the first MiB is kept; `truncated` also when output came
    faster than it was taken. A terminal's output is all stdout. To type and look at the same time there is the
    websocket /ws/containers/{key}/attach/.
    """
    container = await sync_to_async(_attachable)(request, key, body)
    result: dict[str, Any] = {"exit_code": None, "restarting": False, "truncated": False}
    kept = {"stdout": b"", "stderr": b""}
    stdin = body.stdin is not None
    async with attach(container.pk, stdin=stdin, tail=body.logs) as process:
        feeding = asyncio.create_task(_feed(process, body))
        try:
            async with asyncio.timeout(body.timeout):
                await _collect(process, kept, result)
        except TimeoutError:
            pass  # it goes on
        finally:
            feeding.cancel()
    return {**result, **{name: data.decode(errors="replace") for name, data in kept.items()}}


async def _collect(process: Exec, kept: dict[str, bytes], result: dict[str, Any]) -> None:
    while (message := await process.message())["type"] != "exit":
        if message["type"] == "skipped":
            result["truncated"] = True
            continue
        data = base64.b64decode(message["data"])
        room = LIMIT - len(kept[message["stream"]])
        kept[message["stream"]] += data[:room]
        result["truncated"] = result["truncated"] or len(data) > room
    result.update(exit_code=message["exit_code"], restarting=message["restarting"])


async def _feed(process: Exec, body: AttachBody) -> None:
    if body.stdin is not None:
        await process.write(body.stdin.encode())
        if body.end_of_input:
            await process.end_input()


def _attachable(request: HttpRequest, key: str, body: AttachBody) -> Container:
    """And a note of who did. Raises NotAllowed, NotFound, BadState."""
    user = reader(request)
    if body.stdin is not None:
        operator(request)
    container = container_find(key)
    via = str(getattr(request, "slipway_via", "api"))
    attach_record(container=container, user=user, stdin=body.stdin is not None, via=via)
    return container


class SizeBody(Schema):
    rows: int = Field(ge=1, lt=1 << 16)
    columns: int = Field(ge=1, lt=1 << 16)


@router.post("/{key}/resize", response={204: None})
async def container_resize(request: HttpRequest, key: str, body: SizeBody) -> Status[None]:
    """Give the container's own terminal a size; 409 when it has none. The last size holds."""
    container = await sync_to_async(_operable)(request, key)
    await stream_client.resize(container.pk, body.rows, body.columns)
    return Status(204, None)


def _operable(request: HttpRequest, key: str) -> Container:
    operator(request)
    return container_find(key)
