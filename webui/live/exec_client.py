"""The web process's way to processes in containers, over the watcher's socket (workers/watcher/exec_stream.py)."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from webui.live.stream_client import CONNECT_TIMEOUT, checked, socket_path, unavailable

_LINE_LIMIT = 1 << 20  # bytes of one message
_INPUT = 24 * 1024  # bytes of input in one message; the watcher takes lines of 64 KiB


class Exec:
    """A process in a container that has begun."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.exit_code: int | None = None
        self.detached = False
        self.begun: dict[str, Any] = {}  # what the watcher said first

    async def output(self) -> AsyncIterator[tuple[str, bytes]]:
        """("stdout" or "stderr", data) until it has ended, `exit_code` is set then, or is detached from.

        Raises StreamUnavailable.
        """
        while (message := await self.message())["type"] == "output":
            yield message["stream"], base64.b64decode(message["data"])
        self.exit_code = message.get("exit_code")
        self.detached = message["type"] == "detached"

    async def write(self, data: bytes) -> None:
        for start in range(0, len(data), _INPUT):
            await self._tell({"input": base64.b64encode(data[start : start + _INPUT]).decode()})

    async def end_input(self) -> None:
        await self._tell({"end_of_input": True})

    async def detach(self) -> None:
        """Leave the process to itself; `output` ends then."""
        await self._tell({"detach": True})

    async def resize(self, rows: int, columns: int) -> None:
        await self._tell({"size": [rows, columns]})

    async def message(self) -> dict[str, Any]:
        try:
            line = await self._reader.readline()
            return checked(json.loads(line))
        except (ConnectionError, ValueError) as error:
            raise unavailable(str(error)) from error

    async def _tell(self, message: dict[str, Any]) -> None:
        try:
            self._writer.write(json.dumps(message).encode() + b"\n")
            await self._writer.drain()
        except ConnectionError as error:
            raise unavailable(str(error)) from error


@asynccontextmanager
async def begin_exec(container_id: str, **request: Any) -> AsyncIterator[Exec]:
    """Begin a process (see exec_stream.py for `request`) and end it when the block is left.

    Raises StreamUnavailable, and StreamRefused with the code of the engine's error.
    """
    async with _begin("exec", container_id, request) as begun:
        yield begun


@asynccontextmanager
async def attach(container_id: str, **request: Any) -> AsyncIterator[Exec]:
    """Join the container's own process (see attach_stream.py for `request`) until the block is left.

    Its messages come from `message`. Raises as `begin_exec`.
    """
    async with _begin("attach", container_id, request) as begun:
        yield begun


@asynccontextmanager
async def _begin(op: str, container_id: str, request: dict[str, Any]) -> AsyncIterator[Exec]:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            reader, writer = await asyncio.open_unix_connection(socket_path(), limit=_LINE_LIMIT)
    except (OSError, TimeoutError) as error:
        raise unavailable(str(error)) from error
    try:
        begun = Exec(reader, writer)
        await begun._tell({"op": op, "id": container_id, **request})
        begun.begun = await begun.message()
        yield begun
    finally:
        writer.close()
