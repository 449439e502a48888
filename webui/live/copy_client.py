"""The web process's way into containers for tar streams, over the watcher's socket (workers/watcher/copy_stream.py)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from runtime.errors import EngineError
from webui.live.stream_client import (
    CONNECT_TIMEOUT,
    StreamRefused,
    checked,
    socket_path,
    unavailable,
)

Take = Callable[[], Awaitable[bytes]]  # the next block, b"" at the end

_LONGEST = 512 * 1024  # bytes of one block
_LAST_WORDS = 30.0  # seconds for the watcher to say what stays of a stream that broke off


async def copy_in(container_id: str, path: str, take: Take, **options: bool) -> dict[str, int]:
    """Unpack a tar stream into the directory `path`; answers {"members", "bytes"}: what is in its place.

    `options`: no_overwrite, keep_ids. Nothing is taken before the directory is known to be there. Raises
    StreamUnavailable, StreamRefused, and what `take` raises; each says in `extra["written"]` what stays, if anything does.
    """
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            reader, writer = await asyncio.open_unix_connection(socket_path())
    except (OSError, TimeoutError) as error:
        raise unavailable(str(error)) from error
    answer: asyncio.Task[dict[str, Any]] | None = None
    try:
        request = {"op": "copy_in", "id": container_id, "path": path, **options}
        writer.write(json.dumps(request).encode() + b"\n")
        await _message(reader)
        answer = asyncio.create_task(_message(reader))
        try:
            await _send(writer, take, answer)
        except EngineError as error:
            if not answer.done():
                writer.write_eof()
                if stays := await _what_stays(answer):
                    error.extra["written"] = stays
            raise
        written: dict[str, int] = (await answer)["data"]
        return written
    finally:
        if answer is not None:
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)
        writer.close()


async def _send(
    writer: asyncio.StreamWriter, take: Take, answer: asyncio.Task[dict[str, Any]]
) -> None:
    """Until the end, or the watcher has answered: it does so early only when something is wrong."""
    while True:
        taking = asyncio.ensure_future(take())
        try:
            await asyncio.wait({taking, answer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not taking.done():
                taking.cancel()
                await asyncio.gather(taking, return_exceptions=True)
        if answer.done():
            return
        data = taking.result()
        try:
            for start in range(0, len(data) or 1, _LONGEST):
                block = data[start : start + _LONGEST]
                writer.write(len(block).to_bytes(4, "big") + block)
                await writer.drain()
        except ConnectionError as error:
            raise unavailable(str(error)) from error
        if not data:
            return


async def _what_stays(answer: asyncio.Task[dict[str, Any]]) -> Any:
    try:
        async with asyncio.timeout(_LAST_WORDS):
            await answer
    except StreamRefused as refused:
        return refused.extra.get("written")
    except (EngineError, TimeoutError):
        pass
    return None


async def _message(reader: asyncio.StreamReader) -> dict[str, Any]:
    try:
        return checked(json.loads(await reader.readline()))
    except (ConnectionError, ValueError) as error:
        raise unavailable(str(error)) from error
