"""The web process's way to logs and samples: the watcher's stream server, over its unix socket.

The web process may not read the files of containers; the watcher may, and serves them there. Every function
connects anew, so that a restarted watcher is simply found again by the next call.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from runtime.errors import EngineError
from runtime.store.paths import Config

Sample = dict[str, Any]
Line = dict[str, Any]
Batch = list[Line]

LINE_LIMIT = 16 << 20  # bytes of one message: five hundred long lines, or samples of thousands
CONNECT_TIMEOUT = 2.0  # seconds
_SAMPLES_PREFIX = b'{"type":"samples","data":'
_SAMPLE_PREFIX = b'{"type":"sample","data":'


class StreamUnavailable(EngineError):
    """The watcher does not answer; it is being restarted, or was never started."""

    code = "stream_unavailable"
    retryable = True


class StreamRefused(EngineError):
    """The watcher answered with an error; `code` of the payload is in `code`."""

    def __init__(self, payload: Mapping[str, Any]) -> None:
        super().__init__(
            str(payload.get("message", "")),
            hint=str(payload.get("hint", "")),
            **payload.get("extra", {}),
        )
        self.code = str(payload.get("code", EngineError.code))
        self.retryable = bool(payload.get("retryable"))


def socket_path() -> Path:
    return Config.from_env().stream_socket


async def logs(
    container_id: str,
    *,
    tail: int | None = None,
    follow: bool = False,
    until_end: bool = False,
    since: float | None = None,
    until: float | None = None,
    streams: Iterable[Literal["stdout", "stderr"]] = ("stdout", "stderr"),
) -> AsyncGenerator[Batch, None]:
    """Batches of {"time", "stream", "text"}, oldest first; with `follow` until the caller stops, or the
    container ends when `until_end` is set.

    The first batch of a log that is followed is empty: nothing can be refused any more.
    `since` and `until` are Unix seconds. Raises StreamUnavailable, and StreamRefused with code not_found.
    """
    request = {
        "op": "logs",
        "id": container_id,
        "tail": tail,
        "follow": follow,
        "until_end": until_end,
        "since": since,
        "until": until,
        "streams": list(streams),
    }
    async with aclosing(_messages(request)) as messages:
        async for message in messages:
            if message["type"] == "begun":
                yield []
            elif message["type"] == "lines":
                yield message["data"]


async def stats(ids: Iterable[str] | Literal["all"]) -> AsyncGenerator[dict[str, Sample], None]:
    """Samples by id, once a second, until the caller stops. Raises StreamUnavailable."""
    request = {"op": "stats", "ids": ids if isinstance(ids, str) else list(ids)}
    async with aclosing(_messages(request)) as messages:
        async for message in messages:
            yield message["data"]


async def stats_once(container_id: str) -> Sample | None:
    """One sample with rates, or None when the container is not running. Raises StreamUnavailable."""
    request = {"op": "stats", "ids": [container_id], "once": True}
    async with aclosing(_messages(request)) as messages:
        async for message in messages:
            sample: Sample | None = message["data"].get(container_id)
            return sample
    return None


async def top(container_id: str) -> list[dict[str, Any]]:
    """The container's processes (runtime.model.stats.ProcessRow). Raises StreamUnavailable, StreamRefused."""
    async with _connection({"op": "top", "id": container_id}) as reader:
        rows: list[dict[str, Any]] = checked(json.loads(await reader.readline()))["data"]
        return rows


async def execs(container_id: str) -> list[dict[str, Any]]:
    """Commands that run in it besides its own, and the latest that have ended, newest first.

    Rows are workers.watcher.exec_list.ExecRow. Raises StreamUnavailable, StreamRefused.
    """
    async with _connection({"op": "execs", "id": container_id}) as reader:
        rows: list[dict[str, Any]] = checked(json.loads(await reader.readline()))["data"]
        return rows


async def resize(container_id: str, rows: int, columns: int) -> None:
    """Give the container's terminal a size. Raises StreamUnavailable, StreamRefused."""
    request = {"op": "resize", "id": container_id, "size": [rows, columns]}
    async with _connection(request) as reader:
        checked(json.loads(await reader.readline()))


async def stat_path(container_id: str, path: str) -> dict[str, Any]:
    """runtime.engine.files.PathStat of a path in it. Raises StreamUnavailable, StreamRefused."""
    async with _connection({"op": "stat_path", "id": container_id, "path": path}) as reader:
        stat: dict[str, Any] = checked(json.loads(await reader.readline()))["data"]
        return stat


async def copy_out(
    container_id: str, path: str, *, export: bool = False
) -> AsyncGenerator[dict[str, Any], None]:
    """A stat message, then the blocks of a tar stream (workers/watcher/copy_stream.py).

    Raises StreamRefused, and StreamUnavailable, also when it breaks off.
    """
    request = {"op": "copy_out", "id": container_id, "path": path, "export": export}
    async with aclosing(_messages(request)) as messages:
        async for message in messages:
            yield message


async def save_image(image: str, names: list[str]) -> AsyncGenerator[dict[str, Any], None]:
    """A message that it has begun, then the blocks of an archive (workers/watcher/image_stream.py), as `copy_out`."""
    request = {"op": "save_image", "id": image, "names": names}
    async with aclosing(_messages(request)) as messages:
        async for message in messages:
            yield message


async def read_file(
    container_id: str, path: str, limit: int | None
) -> AsyncGenerator[dict[str, Any], None]:
    """As `copy_out`, the content of one file, `limit` bytes at most."""
    request = {"op": "read_file", "id": container_id, "path": path, "limit": limit}
    async with aclosing(_messages(request)) as messages:
        async for message in messages:
            yield message


async def list_files(container_id: str, path: str, *, after: str, limit: int) -> dict[str, Any]:
    """runtime.engine.files.Listing of a directory in it. Raises StreamUnavailable, StreamRefused."""
    request = {"op": "list_files", "id": container_id, "path": path, "after": after, "limit": limit}
    async with aclosing(_messages(request)) as messages:
        found: dict[str, Any] = (await anext(messages))["data"]
        entries = [entry async for message in messages for entry in message["data"]]
        return {**found, "entries": entries}


async def changes(container_id: str, limit: int) -> list[dict[str, Any]]:
    """runtime.engine.diff.Change, `limit` at most. Raises StreamUnavailable, StreamRefused."""
    request = {"op": "changes", "id": container_id, "limit": limit}
    async with aclosing(_messages(request)) as messages:
        return [change async for message in messages for change in message["data"]]


async def host_once() -> Sample | None:
    """One sample of the host with rates. Raises StreamUnavailable."""
    async with aclosing(_messages({"op": "host", "once": True})) as messages:
        async for message in messages:
            sample: Sample = message["data"]
            return sample
    return None


async def history(of: str) -> str:
    """JSON text of the readings before now: an array for a container's id and for "host", arrays by id for "all".

    Raises StreamUnavailable.
    """
    async with _connection({"op": "history", "of": of}) as reader:
        line = await reader.readline()
        if not line.startswith(_SAMPLES_PREFIX):
            checked(json.loads(line or b"{}"))
            raise unavailable("It has not answered.")
        return line[len(_SAMPLES_PREFIX) : line.rindex(b"}")].decode()


async def raw_samples(request: Mapping[str, Any]) -> AsyncGenerator[str, None]:
    """The data of each sample as JSON text, for passing on without reading it."""
    async with _connection(request) as reader:
        async for line in reader:
            if line.startswith(_SAMPLE_PREFIX):
                yield line[len(_SAMPLE_PREFIX) : line.rindex(b"}")].decode()
            else:
                checked(json.loads(line))
    raise unavailable("The stream ended.")


async def _messages(request: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    """Messages until the server says it is done. Raises StreamUnavailable when it just goes away."""
    async with _connection(request) as reader:
        async for line in reader:
            message = checked(json.loads(line))
            if message["type"] == "end":
                return
            yield message
    if not request.get("once"):
        raise unavailable("The stream ended.")


@asynccontextmanager
async def _connection(request: Mapping[str, Any]) -> AsyncIterator[asyncio.StreamReader]:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            reader, writer = await asyncio.open_unix_connection(socket_path(), limit=LINE_LIMIT)
    except (OSError, TimeoutError) as error:
        raise unavailable(str(error)) from error
    try:
        writer.write(json.dumps(request).encode() + b"\n")
        await writer.drain()
        yield reader
    except (ConnectionError, ValueError) as error:
        # ValueError: a line longer than the limit, or one cut off when the watcher died.
        raise unavailable(str(error)) from error
    finally:
        writer.close()


def checked(message: dict[str, Any]) -> dict[str, Any]:
    if message["type"] == "error":
        raise StreamRefused(message["data"])
    return message


def unavailable(reason: str) -> StreamUnavailable:
    return StreamUnavailable(
        "Live data is not available at the moment.",
        hint="The watcher is not running, or is being restarted.",
        reason=reason,
    )
