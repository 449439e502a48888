"""Files of a container, over the stream socket.

    {"op": "stat_path", "id", "path"}, {"op": "copy_out", "id", "path"}

Answers: {"type": "stat", "data": PathStat}, then for a copy {"type": "output", "data": base64} as often as it
takes, and {"type": "end"}: without it the tar stream is not whole. A slow reader holds the copy back.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
from typing import Any, Protocol

from runtime.engine.files import PathStat, Transfer
from runtime.errors import SpecInvalid
from runtime.model.codec import to_json

_ID = re.compile(r"[0-9a-f]{64}")
_BLOCK = 64 * 1024  # bytes in one message


class FileSource(Protocol):
    """runtime.engine.files.Files"""

    def stat(self, container_id: str, path: str) -> PathStat: ...

    def read(self, container_id: str, path: str) -> tuple[PathStat, Transfer]: ...


class Sender(Protocol):
    async def send(self, line: str) -> None: ...


async def serve_copy(sender: Sender, request: dict[str, Any], files: FileSource) -> None:
    """One copy, or look. Raises EngineError when it cannot begin, or cannot be finished."""
    container_id, path = str(request.get("id", "")), str(request.get("path", ""))
    if not _ID.fullmatch(container_id):
        raise SpecInvalid("id", "id must be 64 hex digits.")
    if request["op"] == "stat_path":
        facts = await asyncio.to_thread(files.stat, container_id, path)
        await _tell(sender, {"type": "stat", "data": to_json(facts)})
        return
    facts, transfer = await asyncio.to_thread(files.read, container_id, path)
    try:
        await _tell(sender, {"type": "stat", "data": to_json(facts)})
        fd = transfer.stream.fileno()
        while data := await asyncio.to_thread(os.read, fd, _BLOCK):
            await _tell(sender, {"type": "output", "data": base64.b64encode(data).decode()})
        await asyncio.to_thread(transfer.finish)
        await _tell(sender, {"type": "end"})
    finally:
        await asyncio.to_thread(transfer.close)


async def _tell(sender: Sender, message: dict[str, Any]) -> None:
    await sender.send(json.dumps(message, separators=(",", ":")))
