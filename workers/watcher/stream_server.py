"""Logs, stats and host samples for the web process, over a unix socket.

One request per connection, one JSON object per line:

    {"op": "logs", "id", "tail"?, "follow"?, "until_end"?, "since"?, "until"?, "streams"?}
    {"op": "stats", "ids": [id, …] | "all", "once"?}
    {"op": "host", "once"?}
    {"op": "history", "of": id | "host" | "all"}
    {"op": "top", "id"}
    {"op": "stat_path" | "copy_out" | "copy_in" | "changes" | "list_files" | "read_file", …}: see copy_stream.py
    {"op": "save_image", …}: see image_stream.py
    {"op": "exec", …}: see exec_stream.py
    {"op": "execs", "id"}
    {"op": "attach" | "resize", …}: see attach_stream.py

Answers: {"type": "lines", "data": [line, …]}, {"type": "sample", "data": …} (by id for stats),
{"type": "samples", "data": [sample, …]} (by id for "all"; workers/watcher/history.py),
{"type": "begun"} when a log is followed, {"type": "processes", "data": [ProcessRow, …]}, {"type": "execs", "data": [ExecRow, …]}, {"type": "end"}, {"type": "error", "data": EngineError payload}. Whoever may open the socket may read every
container's logs: it belongs to the web user's group and the web process checks who asks.

A slow reader costs nothing: samples that it cannot take are left out, logs wait on disk, and a connection
that takes nothing for a while is closed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.errors import EngineError, NotFound, SpecInvalid
from runtime.model.codec import to_json
from runtime.model.stats import ProcessRow
from runtime.store.logs import follow_logs, read_logs
from workers.watcher.attach_stream import Attaching, serve_attach, serve_resize
from workers.watcher.copy_stream import ChangeSource, serve_copy
from workers.watcher.exec_list import ExecList
from workers.watcher.exec_stream import BeginExec, serve_exec
from workers.watcher.history import History
from workers.watcher.image_stream import ImageSource, serve_save
from workers.watcher.log_stream import LogPump
from workers.watcher.stats import Sampler

logger = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds between samples
REQUEST_LIMIT = 64 * 1024  # bytes of one request
BUFFER_LIMIT = 256 * 1024  # bytes waiting for a reader before samples are left out
STALL_LIMIT = 30.0  # seconds without taking anything before a reader is dropped
MAX_FOLLOWERS = 200  # each holds a thread
_ID = re.compile(r"[0-9a-f]{64}")
_ONCE_SPAN = 0.25  # seconds between the two samples that rates derive from


class Reader:
    """One connection's writing side."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._stalled_since: float | None = None
        writer.transport.set_write_buffer_limits(high=BUFFER_LIMIT)

    async def send(self, line: str) -> None:
        """Write and wait until the reader has taken enough. TimeoutError when it takes nothing."""
        self._writer.write(line.encode() + b"\n")
        async with asyncio.timeout(STALL_LIMIT):
            await self._writer.drain()

    def offer(self, line: bytes) -> None:
        """Write unless the reader is behind; close the connection of one that stays behind."""
        now = asyncio.get_running_loop().time()
        if self._writer.transport.get_write_buffer_size() < BUFFER_LIMIT:
            self._stalled_since = None
            self._writer.write(line)
        elif self._stalled_since is None:
            self._stalled_since = now
        elif now - self._stalled_since > STALL_LIMIT:
            self._writer.transport.abort()


@dataclass(frozen=True, eq=False)
class Subscription:
    """Who wants samples, of what; `ids` None means every running container."""

    reader: Reader
    ids: frozenset[str] | None


class StreamServer:
    """Serves `path` until cancelled. `running` tells the ids that have stats now.

    `executor` must have one thread: it is what keeps the sampler's callers apart.
    """

    def __init__(
        self,
        *,
        path: Path,
        sampler: Sampler,
        executor: Executor,
        history: History,
        running: Callable[[], Collection[str]],
        logs_dir: Callable[[str], Path],
        run_dir: Callable[[str], Path],
        ended: Callable[[str], bool],
        begin_exec: BeginExec,
        attaching: Attaching,
        top: Callable[[str], list[ProcessRow]],
        files: ChangeSource,
        images: ImageSource,
    ) -> None:
        self._path = path
        self._sampler = sampler
        self._executor = executor
        self._history = history
        self._running = running
        self._logs_dir = logs_dir
        self._run_dir = run_dir
        self._ended = ended
        self._begin_exec = begin_exec
        self._attaching = attaching
        self._execs = ExecList()
        self._top = top
        self._files = files
        self._images = images
        self._stats: set[Subscription] = set()
        self._hosts: set[Reader] = set()
        self._wanted = asyncio.Event()
        self._followers = 0
        self._connections: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Listen and sample until cancelled; the socket is removed at the end."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        before = os.umask(0o117)
        try:
            server = await asyncio.start_unix_server(
                self._connected, self._path, limit=REQUEST_LIMIT
            )
        finally:
            os.umask(before)
        # The directory is made for the web user's group; the socket follows it.
        os.chown(self._path, -1, self._path.parent.stat().st_gid)
        try:
            await self._sample_for_ever()
        finally:
            server.close()
            for task in self._connections:
                task.cancel()
            self._path.unlink(missing_ok=True)

    # -- connections --------------------------------------------------------------------------

    async def _connected(self, stream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        reader = Reader(writer)
        try:
            await self._answer(stream, reader)
        except (ConnectionError, TimeoutError, asyncio.CancelledError):
            # What such a reader has not taken by now it will not get.
            writer.transport.abort()
        except EngineError as error:
            await self._refuse(reader, error)
        except Exception:
            logger.exception("A stream failed.")
        finally:
            self._connections.discard(task)
            writer.close()

    async def _refuse(self, reader: Reader, error: EngineError) -> None:
        with suppress(ConnectionError, TimeoutError):
            await reader.send(json.dumps({"type": "error", "data": error.payload()}))

    async def _answer(self, stream: asyncio.StreamReader, reader: Reader) -> None:
        request = _parse(await stream.readline())
        match request.get("op"):
            case "logs":
                await self._logs(stream, reader, request)
            case "stats":
                await self._serve_stats(stream, reader, request)
            case "host":
                await self._serve_host(stream, reader, request)
            case "history":
                await reader.send(f'{{"type":"samples","data":{self._past(request)}}}')
            case "top":
                rows = await asyncio.to_thread(self._top, _id(request))
                message = {"type": "processes", "data": [to_json(row) for row in rows]}
                await reader.send(json.dumps(message))
            case "stat_path" | "copy_out" | "copy_in" | "changes" | "list_files" | "read_file":
                await serve_copy(stream, reader, request, self._files)
            case "save_image":
                await serve_save(reader, request, self._images)
            case "exec":
                await serve_exec(stream, reader, request, self._begin_exec, self._execs)
            case "execs":
                found = [to_json(row) for row in self._execs.of(_id(request))]
                await reader.send(json.dumps({"type": "execs", "data": found}))
            case "attach":
                await serve_attach(stream, reader, request, self._attaching, self._logs_dir)
            case "resize":
                await serve_resize(reader, request, self._attaching)
            case other:
                raise SpecInvalid("op", f"{other!r} is not an operation of this socket.")

    # -- samples ------------------------------------------------------------------------------

    async def _serve_stats(
        self, stream: asyncio.StreamReader, reader: Reader, request: dict[str, Any]
    ) -> None:
        wanted = request.get("ids", "all")
        ids = None if wanted == "all" else frozenset(map(str, wanted))
        if request.get("once"):
            await reader.send(await self._sample_once(ids))
            return
        subscription = Subscription(reader, ids)
        self._stats.add(subscription)
        self._wanted.set()
        try:
            await _closed(stream)
        finally:
            self._stats.discard(subscription)

    async def _sample_once(self, ids: frozenset[str] | None) -> str:
        chosen = self._running() if ids is None else ids
        if not all(self._sampler.has_recent(i) for i in chosen):
            await self._in_thread(self._sampler.sample, chosen)
            await asyncio.sleep(_ONCE_SPAN)
        encoded = await self._in_thread(self._sampler.sample, chosen)
        return _sample_line(encoded.items()).decode().rstrip("\n")

    async def _serve_host(
        self, stream: asyncio.StreamReader, reader: Reader, request: dict[str, Any]
    ) -> None:
        if request.get("once"):
            await self._in_thread(self._sampler.host)
            await asyncio.sleep(_ONCE_SPAN)
            data = await self._in_thread(self._sampler.host)
            await reader.send(f'{{"type":"sample","data":{data}}}')
            return
        self._hosts.add(reader)
        self._wanted.set()
        try:
            await _closed(stream)
        finally:
            self._hosts.discard(reader)

    def _past(self, request: dict[str, Any]) -> str:
        match request.get("of"):
            case "host":
                return self._history.host()
            case "all":
                return self._history.everything()
            case other:
                return self._history.container(_id({"id": other}))

    async def _sample_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._stats and not self._hosts:
                self._wanted.clear()
                await self._wanted.wait()
            began = loop.time()
            await self._tick()
            await asyncio.sleep(max(0.05, INTERVAL - (loop.time() - began)))

    async def _tick(self) -> None:
        if self._hosts:
            try:
                data = await self._in_thread(self._sampler.host)
            except (EngineError, OSError) as error:
                logger.warning("No sample of the host: %s", error)
            else:
                line = f'{{"type":"sample","data":{data}}}\n'.encode()
                for reader in self._hosts:
                    reader.offer(line)
        if not self._stats:
            return
        running = frozenset(self._running())
        everyone = any(s.ids is None for s in self._stats)
        wanted = running if everyone else frozenset().union(*(s.ids or () for s in self._stats))
        encoded = await self._in_thread(self._sampler.sample, wanted & running)
        lines: dict[frozenset[str] | None, bytes] = {}
        for subscription in self._stats:
            ids = subscription.ids
            if ids not in lines:
                chosen = encoded if ids is None else {i: encoded[i] for i in ids if i in encoded}
                lines[ids] = _sample_line(chosen.items())
            subscription.reader.offer(lines[ids])

    # -- logs ---------------------------------------------------------------------------------

    async def _logs(
        self, stream: asyncio.StreamReader, reader: Reader, request: dict[str, Any]
    ) -> None:
        container_id = _id(request)
        directory = self._logs_dir(container_id)
        # A container that never started has a bundle and no logs yet; following it waits for them.
        if not directory.parent.is_dir():
            raise NotFound(f"There are no logs of container {container_id[:12]}.")
        options = _log_options(request)
        if not request.get("follow"):
            await self._pump(reader, LogPump(lambda stop: read_logs(directory, **options)))
            return
        if self._followers >= MAX_FOLLOWERS:
            raise EngineError(
                f"{MAX_FOLLOWERS} log streams are open already.", hint="Close some and try again."
            )
        if request.get("until_end"):
            options["ended"] = lambda: self._ended(container_id)
            options["run_dir"] = self._run_dir(container_id)
        await reader.send('{"type":"begun"}')
        self._followers += 1
        pump = LogPump(lambda stop: follow_logs(directory, stop=stop, **options))
        sending = asyncio.create_task(self._pump(reader, pump))
        leaving = asyncio.create_task(_closed(stream))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            self._followers -= 1
            pump.close()
            sending.cancel()
            leaving.cancel()

    async def _pump(self, reader: Reader, pump: LogPump) -> None:
        pump.start()
        try:
            while (lines := await pump.batch()) is not None:
                await reader.send(
                    json.dumps({"type": "lines", "data": lines}, separators=(",", ":"))
                )
            await reader.send('{"type":"end"}')
        finally:
            pump.close()

    async def _in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *args)


def _parse(line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except ValueError:
        raise SpecInvalid("request", "The request is not a line of JSON.") from None
    if not isinstance(request, dict):
        raise SpecInvalid("request", "The request must be an object.")
    return request


def _id(request: dict[str, Any]) -> str:
    container_id = str(request.get("id", ""))
    if not _ID.fullmatch(container_id):
        raise SpecInvalid("id", "id must be 64 hex digits.")
    return container_id


def _log_options(request: dict[str, Any]) -> dict[str, Any]:
    streams = request.get("streams") or ("stdout", "stderr")
    if not set(streams) <= {"stdout", "stderr"}:
        raise SpecInvalid("streams", "streams may hold stdout and stderr.")
    options: dict[str, Any] = {"streams": frozenset(streams)}
    for name, kinds in (("tail", int), ("since", (int, float)), ("until", (int, float))):
        value = request.get(name)
        if value is not None:
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise SpecInvalid(name, f"{name} must be a number.")
            options[name] = value
    return options


def _sample_line(encoded: Iterable[tuple[str, str]]) -> bytes:
    body = ",".join(f'"{container_id}":{sample}' for container_id, sample in encoded)
    return f'{{"type":"sample","data":{{{body}}}}}\n'.encode()


async def _closed(stream: asyncio.StreamReader) -> None:
    """Return when the other side has closed; whatever else it sends is dropped."""
    while await stream.read(4096):
        pass
