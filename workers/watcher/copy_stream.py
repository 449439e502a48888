"""Files of a container, over the stream socket.

    {"op": "stat_path", "id", "path"}, {"op": "copy_out", "id", "path", "export"?}, {"op": "changes", "id", "limit"}
    {"op": "list_files", "id", "path", "after", "limit"}, {"op": "read_file", "id", "path", "limit"}

Answers: {"type": "stat", "data": PathStat}, then for a copy {"type": "output", "data": base64} as often as it
takes, and {"type": "end"}: without it the tar stream is not whole. A slow reader holds the copy back. Changes are
{"type": "changes", "data": [Change, …]} as often as it takes, and {"type": "end"}; a directory is {"type": "listing",
"data": Listing without its entries}, then {"type": "entries", "data": [Entry, …]} in the same way. The content of a
file comes as a copy does.

    {"op": "copy_in", "id", "path", "no_overwrite"?, "keep_ids"?}

Answer: {"type": "ready"}; then the client sends the tar stream in blocks, each after its length in four bytes,
the most significant first, and a length of zero at the end. {"type": "written", "data": {"members", "bytes"}}, or
{"type": "error"}, which may come at any time. A client that closes its side before the end is told what stays.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, Protocol

from runtime.engine.diff import Change
from runtime.engine.files import Listing, PathStat, Transfer
from runtime.errors import ArchiveInvalid, EngineError, SpecInvalid
from runtime.model.codec import to_json
from workers.watcher.exec_stream import container_of, writable

STALL_LIMIT = (
    60.0  # seconds without a byte from a client: its container cannot be started meanwhile
)
_BATCH = 200  # changes in one message; a path has up to 4096 bytes
_BLOCK = 64 * 1024  # bytes in one message
_LONGEST_BLOCK = 1 << 20  # bytes of what comes


class FileSource(Protocol):
    """runtime.engine.files.Files"""

    def stat(self, container_id: str, path: str) -> PathStat: ...

    def read(
        self, container_id: str, path: str, *, export: bool = False
    ) -> tuple[PathStat, Transfer]: ...

    def content(
        self, container_id: str, path: str, *, limit: int | None = None
    ) -> tuple[PathStat, Transfer]: ...

    def listing(
        self, container_id: str, path: str, *, after: str = "", limit: int = 1000
    ) -> Listing: ...

    def write(
        self, container_id: str, path: str, *, no_overwrite: bool = False, keep_ids: bool = False
    ) -> Transfer: ...


class ChangeSource(Protocol):
    """runtime.engine.Engine"""

    @property
    def files(self) -> FileSource: ...

    def changes(self, container_id: str) -> Iterator[Change]: ...


class Sender(Protocol):
    async def send(self, line: str) -> None: ...


async def serve_copy(
    stream: asyncio.StreamReader, sender: Sender, request: dict[str, Any], engine: ChangeSource
) -> None:
    """One copy, or look. Raises EngineError when it cannot begin, or cannot be finished."""
    container_id, path = container_of(request), str(request.get("path", ""))
    if request["op"] == "changes":
        await _changes(sender, container_id, int(request.get("limit", 0)), engine)
        return
    files = engine.files
    if request["op"] == "copy_in":
        await _copy_in(stream, sender, files, container_id, path, request)
        return
    if request["op"] == "stat_path":
        facts = await asyncio.to_thread(files.stat, container_id, path)
        await _tell(sender, {"type": "stat", "data": to_json(facts)})
        return
    if request["op"] == "list_files":
        await _listing(sender, files, container_id, path, request)
        return
    if request["op"] == "read_file":
        begin = partial(files.content, container_id, path, limit=request.get("limit"))
    else:
        begin = partial(files.read, container_id, path, export=bool(request.get("export")))
    facts, transfer = await asyncio.to_thread(begin)
    try:
        await _tell(sender, {"type": "stat", "data": to_json(facts)})
        fd = transfer.stream.fileno()
        while data := await asyncio.to_thread(os.read, fd, _BLOCK):
            await _tell(sender, {"type": "output", "data": base64.b64encode(data).decode()})
        await asyncio.to_thread(transfer.finish)
        await _tell(sender, {"type": "end"})
    finally:
        await asyncio.to_thread(transfer.close)


async def _copy_in(
    stream: asyncio.StreamReader,
    sender: Sender,
    files: FileSource,
    container_id: str,
    path: str,
    request: dict[str, Any],
) -> None:
    options = {name: bool(request.get(name)) for name in ("no_overwrite", "keep_ids")}
    transfer = await asyncio.to_thread(files.write, container_id, path, **options)
    try:
        await _tell(sender, {"type": "ready"})
        broken = await _fill(stream, transfer)
        try:
            # Also of a stream that broke off: the helper ends it in order, and says what stays.
            written: Any = await asyncio.to_thread(transfer.finish)
        except EngineError as error:
            written = error.extra.get("written")
            if broken is None or not isinstance(error, ArchiveInvalid):
                raise
        if broken is not None:
            if written:
                broken.extra["written"] = written
            raise broken
        await _tell(sender, {"type": "written", "data": written})
    except EngineError as error:
        # The client hears of it when it has stopped sending: closing now would drop what it was told.
        await _tell(sender, {"type": "error", "data": error.payload()})
        await _drop(stream)
    finally:
        await asyncio.to_thread(transfer.close)


async def _fill(stream: asyncio.StreamReader, transfer: Transfer) -> EngineError | None:
    """Pass on what the client sends until its end, or until the helper takes no more.

    Returns why it is not whole.
    """
    fd = transfer.stream.fileno()
    os.set_blocking(fd, False)
    try:
        while True:
            async with asyncio.timeout(STALL_LIMIT):
                length = int.from_bytes(await stream.readexactly(4), "big")
                if length > _LONGEST_BLOCK:
                    return SpecInvalid("block", "A block of the stream is too long.")
                block = await stream.readexactly(length)
            if not block:
                return None
            await _write(fd, block)
    except asyncio.IncompleteReadError:
        return EngineError("The tar stream broke off.")
    except TimeoutError:
        return EngineError(f"Nothing of the tar stream came for {STALL_LIMIT:.0f} s.")
    except BrokenPipeError:
        return None  # the helper says why


async def _write(fd: int, data: bytes) -> None:
    """Not in a thread: a slow disk must not hold those that other requests need."""
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(fd, left) :]
        except BlockingIOError:
            await writable(fd)


async def _drop(stream: asyncio.StreamReader) -> None:
    """What a client sends until it closes its side, for a while."""
    with suppress(TimeoutError):
        async with asyncio.timeout(STALL_LIMIT):
            while await stream.read(_BLOCK):
                pass


async def _listing(
    sender: Sender, files: FileSource, container_id: str, path: str, request: dict[str, Any]
) -> None:
    after, limit = str(request.get("after", "")), int(request.get("limit", 0))
    found = await asyncio.to_thread(files.listing, container_id, path, after=after, limit=limit)
    head = to_json(replace(found, entries=()))
    del head["entries"]
    await _tell(sender, {"type": "listing", "data": head})
    for start in range(0, len(found.entries), _BATCH):
        rows = [to_json(entry) for entry in found.entries[start : start + _BATCH]]
        await _tell(sender, {"type": "entries", "data": rows})
    await _tell(sender, {"type": "end"})


async def _changes(sender: Sender, container_id: str, limit: int, engine: ChangeSource) -> None:
    found = islice(await asyncio.to_thread(engine.changes, container_id), limit)
    while batch := await asyncio.to_thread(lambda: list(islice(found, _BATCH))):
        await _tell(sender, {"type": "changes", "data": [to_json(change) for change in batch]})
    await _tell(sender, {"type": "end"})


async def _tell(sender: Sender, message: dict[str, Any]) -> None:
    await sender.send(json.dumps(message, separators=(",", ":")))
