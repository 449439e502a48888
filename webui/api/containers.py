"""/api/v1/containers"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from ninja import Query, Router, Schema
from pydantic import Field

from runtime.errors import NotFound
from runtime.model.state import Action
from runtime.model.stats import ProcessRow, StatsData
from webui.api.answers import DONE, MADE, Answer, WaitQuery, answer, operation_now
from webui.api.auth import operator, reader, reads_values
from webui.api.images import image_made
from webui.api.log_text import as_json, as_text
from webui.api.times import parse_time
from webui.api.waiting import Condition, ContainerEnd, wait_for_end
from webui.containers import committing, services
from webui.containers.listing import container_rows
from webui.containers.models import Container
from webui.containers.requests import (
    CommitRequest,
    ContainerRequest,
    KillRequest,
    RenameRequest,
    StopRequest,
    UpdateRequest,
)
from webui.containers.run_line import parse_run_line
from webui.containers.selectors import container_alone, container_find
from webui.containers.wording import request_words
from webui.core.errors import TimedOut
from webui.core.payloads import container_row, host_row
from webui.core.redact import without_values
from webui.core.rows import ContainerRow, ContainerWhole, ImageRow, OperationRow, UnmanagedContainer
from webui.hosts.models import Host
from webui.hosts.selectors import current_host
from webui.live import stream_client

router = Router()


class ListQuery(Schema):
    """`limit`: so many at most, all without it; `offset`: so many are left out first."""

    status: str = ""
    label: str = ""
    limit: int | None = Field(default=None, ge=0)
    offset: int = Field(default=0, ge=0)
    unmanaged: bool = False


@router.get("", response=list[Any])
def container_list(
    request: HttpRequest,
    response: HttpResponse,
    query: Annotated[ListQuery, Query()],
) -> list[ContainerRow] | list[UnmanagedContainer]:
    """Containers, newest first; filter by `status`, or by `label` ("name" or "name=value").

    With `unmanaged=true` instead what lies on the hosts' disks unknown to the database, as {id, name, status,
    path}: never started, stopped or removed by Slipway. `limit` and `offset` take a part of what matches; the header X-Total-Count says how many those are.
    """
    reader(request)
    end = None if query.limit is None else query.offset + query.limit
    if query.unmanaged:
        strange = [each for host in Host.objects.all() for each in host_row(host)["unmanaged"]]
        response["X-Total-Count"] = str(len(strange))
        return strange[query.offset : end]
    found = Container.objects.all()
    if query.status:
        found = found.filter(status=query.status)
    ids: list[str] = []
    name, equals, value = query.label.partition("=")
    for pk, labels in found.values_list("pk", "spec__labels"):
        if not query.label or (name in (labels or {}) and (not equals or labels[name] == value)):
            ids.append(pk)
    response["X-Total-Count"] = str(len(ids))
    return container_rows(ids[query.offset : end])


@router.post("", response=MADE)
def container_create(
    request: HttpRequest, body: ContainerRequest, wait: WaitQuery
) -> Answer[ContainerRow]:
    """Make a container, and start it unless `start` is false."""
    user, via = operator(request)
    container, operation = services.container_create(
        host=current_host(),
        request=body,
        user=user,
        via=via,
        publish_address=settings.ENVIRONMENT.publish_address,
    )
    # What the host refuses, too, is told in the words of the request.
    with request_words(body):
        return answer(wait, operation, lambda: _row(container.pk), 201, target_row=True)


class RunLine(Schema):
    line: str = Field(max_length=100_000)


@router.post("/run-line", response=Any)
def container_run_line(request: HttpRequest, body: RunLine) -> Any:
    """A `docker run` line as {request, ports, ignored}: what the form starts from. Nothing is made."""
    operator(request)
    return parse_run_line(body.line)


def _row(container_id: str) -> ContainerRow:
    return container_row(container_find(container_id))


@router.get("/{key}", response=Any)
def container_get(request: HttpRequest, key: str) -> ContainerRow:
    """One container, by name, id or the id's first digits."""
    reader(request)
    return container_row(container_find(key))


@router.get("/{key}/inspect", response=Any)
def container_inspect(request: HttpRequest, key: str) -> ContainerWhole:
    """Everything: the row, the whole spec, the image's config, measured facts.

    Values of variables are for operators: for viewers and tokens that may only read they are "•••", and `hidden` names
    where.
    """
    shown = reads_values(request)
    container = container_find(key)
    spec, config = container.spec, container.image.config if container.image else None
    if not shown:
        spec = {**spec, "process": without_values(spec.get("process") or {})}
        config = without_values(config)
    return {
        **container_row(container),
        "spec": spec,
        "image_config": config,
        "hidden": [] if shown else ["spec.process.env", "image_config.env"],
        "pid": container.pid,
        "usage": container.usage,
        "host": container.host_id,
    }


@router.delete("/{key}", response=DONE)
def container_remove(
    request: HttpRequest, key: str, wait: WaitQuery, force: bool = False, volumes: bool = False
) -> Answer[OperationRow]:
    """Remove it with its writable layer; `force` kills it first, `volumes` takes unnamed ones along."""
    user, via = operator(request)
    container = container_alone(key)
    params = {"force": force, "volumes": volumes}
    operation = services.container_act(
        container=container, action="remove", user=user, via=via, params=params
    )
    return answer(wait, operation, lambda: operation_now(operation))


@router.patch("/{key}", response=DONE)
def container_update(
    request: HttpRequest, key: str, body: UpdateRequest, wait: WaitQuery
) -> Answer[ContainerRow]:
    """Change limits and restart policy, also while it runs."""
    user, via = operator(request)
    container = container_find(key)
    operation = services.container_update(container=container, request=body, user=user, via=via)
    return answer(wait, operation, lambda: _row(container.pk), target_row=True)


@router.post("/{key}/rename", response=DONE)
def container_rename(
    request: HttpRequest, key: str, body: RenameRequest, wait: WaitQuery
) -> Answer[ContainerRow]:
    """Give it another name."""
    user, via = operator(request)
    container = container_find(key)
    operation = services.container_rename(container=container, name=body.name, user=user, via=via)
    return answer(wait, operation, lambda: _row(container.pk), target_row=True)


def _act(
    request: HttpRequest, key: str, action: Action, wait: Any, params: dict[str, Any] | None = None
) -> Answer[ContainerRow]:
    user, via = operator(request)
    container: Container = container_alone(key)
    operation = services.container_act(
        container=container, action=action, user=user, via=via, params=params
    )
    return answer(wait, operation, lambda: _row(container.pk), target_row=True)


@router.post("/{key}/commit", response=MADE)
def container_commit(
    request: HttpRequest, key: str, wait: WaitQuery, body: CommitRequest | None = None
) -> Answer[ImageRow | OperationRow]:
    """Make an image of its own image and what it has changed outside its volumes; it runs as the container did.

    With `changes`, instructions as Docker's: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL,
    STOPSIGNAL, USER, VOLUME, WORKDIR. Unless `pause` is false it is frozen meanwhile. A name that another image has
    is refused (409) unless `replace` is true.
    """
    user, via = operator(request)
    operation = committing.container_commit(
        container=container_find(key), request=body or CommitRequest(), user=user, via=via
    )
    return answer(wait, operation, lambda: image_made(operation), 201)


@router.post("/{key}/start", response=DONE)
def container_start(request: HttpRequest, key: str, wait: WaitQuery) -> Answer[ContainerRow]:
    return _act(request, key, "start", wait)


@router.post("/{key}/stop", response=DONE)
def container_stop(
    request: HttpRequest, key: str, wait: WaitQuery, body: StopRequest | None = None
) -> Answer[ContainerRow]:
    """Send its stop signal, and SIGKILL after `timeout` seconds."""
    return _act(request, key, "stop", wait, body.model_dump() if body else None)


@router.post("/{key}/restart", response=DONE)
def container_restart(
    request: HttpRequest, key: str, wait: WaitQuery, body: StopRequest | None = None
) -> Answer[ContainerRow]:
    return _act(request, key, "restart", wait, body.model_dump() if body else None)


@router.post("/{key}/kill", response=DONE)
def container_kill(
    request: HttpRequest, key: str, wait: WaitQuery, body: KillRequest | None = None
) -> Answer[ContainerRow]:
    """Send a signal, SIGKILL unless told otherwise."""
    return _act(request, key, "kill", wait, (body or KillRequest()).model_dump())


@router.post("/{key}/pause", response=DONE)
def container_pause(request: HttpRequest, key: str, wait: WaitQuery) -> Answer[ContainerRow]:
    return _act(request, key, "pause", wait)


@router.post("/{key}/unpause", response=DONE)
def container_unpause(request: HttpRequest, key: str, wait: WaitQuery) -> Answer[ContainerRow]:
    return _act(request, key, "unpause", wait)


class WaitForQuery(Schema):
    """`timeout` in seconds; none: as long as it takes."""

    condition: Condition = "not-running"
    timeout: float | None = Field(default=None, gt=0)


@router.post("/{key}/wait", response=Any)
async def container_wait(
    request: HttpRequest, key: str, query: Annotated[WaitForQuery, Query()]
) -> ContainerEnd:
    """Wait until it does not run (at once when it does not), for its next exit, or for its removal.

    Answers {exit_code, oom_killed, error, finished_at}, of its last end; 408 after `timeout`.
    """
    container = await sync_to_async(_readable)(request, key)
    try:
        async with asyncio.timeout(query.timeout):
            return await wait_for_end(container, query.condition)
    except TimeoutError:
        message = f"Container {container.name} has not reached {query.condition} in time."
        raise TimedOut(message, field="timeout") from None


@router.get("/{key}/stats", response=Any)
async def container_stats(request: HttpRequest, key: str) -> Annotated[Any, StatsData | None]:
    """One sample with rates; null when it is not running."""
    container = await sync_to_async(_readable)(request, key)
    return await stream_client.stats_once(container.pk)


@router.get("/{key}/top", response=Any)
async def container_top(request: HttpRequest, key: str) -> Annotated[Any, list[ProcessRow]]:
    """Its processes: {pid, host_pid, parent, user, state, cpu, memory, started_at, command}.

    `pid` and `user` are the container's, `cpu` seconds of processor time, `memory` bytes resident.
    """
    container = await sync_to_async(_readable)(request, key)
    return await stream_client.top(container.pk)


class LogsQuery(Schema):
    """`since` and `until`: RFC 3339, Unix seconds, or a duration before now ("10m")."""

    tail: int | None = Field(default=None, ge=0)
    since: str = ""
    until: str = ""
    follow: bool = False
    timestamps: bool = False
    stdout: bool = True
    stderr: bool = True
    format: Literal["text", "json"] = "text"


@router.get("/{key}/logs", response=Any)
async def container_logs(
    request: HttpRequest, key: str, query: Annotated[LogsQuery, Query()]
) -> Any:
    """Log lines as text, or with `format=json` as a list of {time, stream, text}.

    `follow` goes on until the container ends; JSON then comes as one object per line. In JSON a long line
    comes in parts, all but the last with `partial`; in text it is one line.
    """
    container = await sync_to_async(_readable)(request, key)
    if container.spec.get("logs", {}).get("driver") == "none":
        raise NotFound(
            f"The output of {container.name} is not kept: its log driver is none.",
            hint="Run a copy of it with the driver file.",
        )
    batches = stream_client.logs(
        container.pk,
        tail=query.tail,
        follow=query.follow,
        until_end=query.follow,
        since=parse_time(query.since, "since"),
        until=parse_time(query.until, "until"),
        streams=[s for s in ("stdout", "stderr") if getattr(query, s)],
    )
    if query.format == "json" and not query.follow:
        return [line async for batch in batches for line in batch]
    # What goes wrong at the beginning is still an answer with a number.
    nothing: stream_client.Batch = []
    first = await anext(batches, nothing)
    kind = "application/x-ndjson" if query.format == "json" else "text/plain"
    if query.format == "json":
        lines = as_json(first, batches)
    else:
        lines = as_text(first, batches, timestamps=query.timestamps, follow=query.follow)
    return StreamingHttpResponse(lines, content_type=f"{kind}; charset=utf-8")


def _readable(request: HttpRequest, key: str) -> Container:
    reader(request)
    return container_alone(key)
