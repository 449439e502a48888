"""Streams of bytes that come over the watcher's socket, as bodies of answers."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any


async def decoded_blocks(messages: AsyncGenerator[dict[str, Any], None]) -> AsyncIterator[bytes]:
    """The data of each message; the stream is let go of with the answer. Raises what it raises: the answer breaks off."""
    async with aclosing(messages):
        async for message in messages:
            yield base64.b64decode(message["data"])
