"""An image as an archive, over the stream socket.

    {"op": "save_image", "id": digest, "names": [reference, …]}

Answers: {"type": "begun"}, then {"type": "output", "data": base64} as often as it takes, and {"type": "end"}: without
it the archive is not whole. A slow reader holds it back; one that takes nothing for a while is let go of.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Generator, Iterator, Sequence
from typing import Any, Protocol

_LONGEST = 64 * 1024  # bytes in one message


class ImageSource(Protocol):
    """runtime.engine.saving.Saving"""

    def save(self, image_id: str, names: Sequence[str]) -> Iterator[bytes]: ...


class Sender(Protocol):
    async def send(self, line: str) -> None: ...


async def serve_save(sender: Sender, request: dict[str, Any], images: ImageSource) -> None:
    """One image. Raises EngineError when it cannot begin, or cannot be finished."""
    names = [str(name) for name in request.get("names", ())]
    blocks = images.save(str(request.get("id", "")), names)
    try:
        block: bytes | None = await asyncio.to_thread(next, blocks, None)
        await sender.send('{"type":"begun"}')
        while block is not None:
            for start in range(0, len(block), _LONGEST):
                data = base64.b64encode(block[start : start + _LONGEST]).decode()
                await sender.send(json.dumps({"type": "output", "data": data}))
            block = await asyncio.to_thread(next, blocks, None)
        await sender.send('{"type":"end"}')
    finally:
        if isinstance(blocks, Generator):
            await asyncio.to_thread(blocks.close)
