"""Files of a container, over the stream socket.

    {"op": "stat_path", "id", "path"}, {"op": "copy_out", "id", "path", "export"?}, {"op": "changes", "id", "limit"}

Answers: {"type": "stat", "data": PathStat}, then for a copy {"type": "output", "data": base64} as often as it
takes, and {"type": "end"}: without it the tar stream is not whole. A slow reader holds the copy back. Changes are
{"type": "changes", "data": [Change, …]} as often as it takes, and {"type": "end"}.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, Protocol

from runtime.engine.diff import Change
from runtime.engine.files import PathStat, Transfer
from runtime.errors import SpecInvalid
from runtime.model.codec import to_json

_ID = re.compile(r"[0-9a-f]{64}")
_BATCH = 200  # changes in one message; a path has up to 4096 bytes
_BLOCK = 64 * 1024  # bytes in one message


class FileSource(Protocol):
    """runtime.engine.files.Files"""

    def stat(self, container_id: str, path: str) -> PathStat: ...

    def read(
        self, container_id: str, path: str, *, export: bool = False
    ) -> tuple[PathStat, Transfer]: ...


class ChangeSource(Protocol):
    """runtime.engine.Engine"""

    @property
    def files(self) -> FileSource: ...

    def changes(self, container_id: str) -> Iterator[Change]: ...


class Sender(Protocol):
    async def send(self, line: str) -> None: ...


async def serve_copy(sender: Sender, request: dict[str, Any], engine: ChangeSource) -> None:
    """One copy, or look. Raises EngineError when it cannot begin, or cannot be finished."""
    container_id, path = str(request.get("id", "")), str(request.get("path", ""))
    if not _ID.fullmatch(container_id):
        raise SpecInvalid("id", "id must be 64 hex digits.")
    if request["op"] == "changes":
        await _changes(sender, container_id, int(request.get("limit", 0)), engine)
        return
    files = engine.files
    if request["op"] == "stat_path":
        facts = await asyncio.to_thread(files.stat, container_id, path)
        await _tell(sender, {"type": "stat", "data": to_json(facts)})
        return
    facts, transfer = await asyncio.to_thread(
        files.read, container_id, path, export=bool(request.get("export"))
    )
    try:
        await _tell(sender, {"type": "stat", "data": to_json(facts)})
        fd = transfer.stream.fileno()
        while data := await asyncio.to_thread(os.read, fd, _BLOCK):
            await _tell(sender, {"type": "output", "data": base64.b64encode(data).decode()})
        await asyncio.to_thread(transfer.finish)
        await _tell(sender, {"type": "end"})
    finally:
        await asyncio.to_thread(transfer.close)


async def _changes(sender: Sender, container_id: str, limit: int, engine: ChangeSource) -> None:
    found = islice(await asyncio.to_thread(engine.changes, container_id), limit)
    while batch := await asyncio.to_thread(lambda: list(islice(found, _BATCH))):
        await _tell(sender, {"type": "changes", "data": [to_json(change) for change in batch]})
    await _tell(sender, {"type": "end"})


async def _tell(sender: Sender, message: dict[str, Any]) -> None:
    await sender.send(json.dumps(message, separators=(",", ":")))
