"""/api/v1/containers/{key}/exec"""

from __future__ import annotations

import asyncio
import shlex
from typing import Any

from asgiref.sync import async_to_sync
from django.http import HttpRequest
from ninja import Router, Schema, Status
from pydantic import Field
from typing_extensions import TypedDict

from runtime.errors import EngineError, NotFound, SpecInvalid
from webui.api.auth import operator, reader
from webui.containers.execs import exec_record
from webui.containers.models import Container
from webui.containers.selectors import container_alone
from webui.core.errors import TimedOut
from webui.live import stream_client
from webui.live.exec_client import Exec, begin_exec

router = Router()

# The runtime's names of what a command may be given, in the words of the request.
_FIELDS = {"process.user": "user", "process.cwd": "workdir"}
LIMIT = 1 << 20  # bytes kept of each stream


class ExecResult(TypedDict):
    exit_code: int | None
    stdout: str
    stderr: str
    truncated: bool


class ExecBegun(TypedDict):
    detached: bool
    id: str
    pid: int  # as the container sees it
    host_pid: int


class ExecBody(Schema):
    """As `docker exec`: what is left out is as the container's own process has it."""

    command: list[str] | str
    env: dict[str, str] = Field(default_factory=dict)
    user: str = ""
    workdir: str = ""
    tty: bool = False
    privileged: bool = False
    detach: bool = False  # answer when it runs; its output is dropped
    stdin: str | None = None  # its input; none: there is nothing to read
    timeout: float = Field(default=60.0, gt=0, le=3600)  # seconds; then it is killed


# Not async: Django Ninja would go from the loop to the request's thread and back once to ask who it is and once for
# what reads the database, which took a millisecond. From here only what waits for the command goes to the loop.
@router.post("/{key}/exec", response={200: Any, 202: Any})
def container_exec(
    request: HttpRequest, key: str, body: ExecBody
) -> ExecResult | Status[ExecBegun]:
    """Run a command in a running container and answer {exit_code, stdout, stderr, truncated} when it has ended.

    Of each stream the first MiB is kept. With `detach` the answer is 202 as soon as it runs: {detached, id, pid,
    host_pid}, `pid` as the container sees it. 126 and 127 are
    answers as well: there is no such command, or it cannot be executed.
    """
    return async_to_sync(_execute)(_allowed(request, key, body).pk, body)


async def _execute(container_id: str, body: ExecBody) -> ExecResult | Status[ExecBegun]:
    asked = {
        "args": words(body.command),
        "env": [f"{name}={value}" for name, value in body.env.items()],
        "user": body.user,
        "cwd": body.workdir,
        "tty": body.tty,
        "privileged": body.privileged,
        "detach": body.detach,
        "stdin": body.stdin is not None,
    }
    try:
        async with begin_exec(container_id, **asked) as process:
            if body.detach:
                return Status(202, _begun(process.begun))
            async with asyncio.timeout(body.timeout):
                return await _collect(process, body.stdin)
    except EngineError as error:
        if error.extra.get("stage") == "exec" and "exit_code" in error.extra:
            return _result(
                error.extra["exit_code"], {"stderr": f"{error.message}\n".encode()}, False
            )
        if (field := error.extra.get("field")) in _FIELDS:
            error.extra["field"] = _FIELDS[field]
        raise
    except TimeoutError:
        raise TimedOut(
            f"The command did not end within {body.timeout:g} s and was killed.",
            hint="Give a longer timeout, or detach.",
            field="timeout",
        ) from None


def _begun(begun: dict[str, Any]) -> ExecBegun:
    return {
        "detached": True,
        "id": begun["id"],
        "pid": begun["pid"],
        "host_pid": begun["host_pid"],
    }


@router.get("/{key}/exec", response=list[Any])
def container_execs(request: HttpRequest, key: str) -> list[Any]:
    """Commands that run in it besides its own, and the latest that have ended, newest first.

    {id, pid, host_pid, command, user, tty, detached, started_at, running, finished_at, exit_code}; forgotten
    when the watcher is restarted.
    """
    return async_to_sync(stream_client.execs)(_readable(request, key).pk)


@router.get("/{key}/exec/{exec_id}", response=Any)
def container_exec_get(request: HttpRequest, key: str, exec_id: str) -> Any:
    """One of them, by its id: whether it runs, and its exit code."""
    container = _readable(request, key)
    for row in async_to_sync(stream_client.execs)(container.pk):
        if row["id"] == exec_id:
            return row
    raise NotFound(f"Container {container.name} has run no such command lately.", id=exec_id)


def _readable(request: HttpRequest, key: str) -> Container:
    reader(request)
    return container_alone(key)


def _allowed(request: HttpRequest, key: str, body: ExecBody) -> Container:
    """The container, and a note of who ran what. Raises NotAllowed, NotFound, SpecInvalid."""
    user, via = operator(request)
    container = container_alone(key)
    exec_record(
        container=container, user=user, command=words(body.command), run_as=body.user, via=via
    )
    return container


def words(command: list[str] | str) -> list[str]:
    """As a shell would split a line. Raises SpecInvalid."""
    if isinstance(command, list):
        return command
    try:
        return shlex.split(command)
    except ValueError as error:
        raise SpecInvalid("command", f"The command cannot be split into words: {error}.") from None


async def _collect(process: Exec, given: str | None) -> ExecResult:
    kept = {"stdout": b"", "stderr": b""}
    truncated = False
    feeding = asyncio.create_task(_feed(process, given))
    try:
        async for stream, data in process.output():
            room = LIMIT - len(kept[stream])
            truncated = truncated or len(data) > room
            kept[stream] += data[:room]
    finally:
        feeding.cancel()
    return _result(process.exit_code, kept, truncated)


async def _feed(process: Exec, given: str | None) -> None:
    if given is not None:
        await process.write(given.encode())
        await process.end_input()


def _result(code: int | None, kept: dict[str, bytes], truncated: bool) -> ExecResult:
    return {
        "exit_code": code,
        "stdout": kept.get("stdout", b"").decode(errors="replace"),
        "stderr": kept.get("stderr", b"").decode(errors="replace"),
        "truncated": truncated,
    }
