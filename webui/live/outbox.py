"""What waits to be sent to one browser: never more than it has use for.

A newer row replaces an older one of the same object and a newer sample the older, so that a slow browser
gets the truth late instead of history in full. Log lines make their reader wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from itertools import count

# Above this a browser has stopped reading; it is let go and gets a snapshot when it comes back.
MAX_WAITING = 10_000
MAX_LINES = 8  # messages of log lines, some hundred lines each


class Overflow(Exception):
    """The browser takes nothing any more."""


class Outbox:
    """Messages by key, oldest first. All of it on one event loop."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, str] = {}
        self._lines = 0
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._serial = count()

    def put(self, key: Hashable, text: str) -> None:
        """Queue `text` in place of what waits under the same key. Raises Overflow."""
        if len(self._waiting) >= MAX_WAITING and key not in self._waiting:
            raise Overflow
        self._waiting[key] = text
        self._filled.set()

    def append(self, text: str) -> None:
        """Queue `text` in addition to everything. Raises Overflow."""
        self.put(next(self._serial), text)

    async def put_lines(self, text: str) -> None:
        """Queue log lines once earlier ones have left."""
        await self._room.wait()
        self._lines += 1
        if self._lines >= MAX_LINES:
            self._room.clear()
        self.put(("lines", next(self._serial)), text)

    def drop(self, topic: str) -> None:
        """Forget what waits under keys (topic, …): a snapshot is about to say it better."""
        for key in [k for k in self._waiting if isinstance(k, tuple) and k[0] == topic]:
            del self._waiting[key]

    async def take(self) -> str:
        """The oldest message, as soon as there is one."""
        while not self._waiting:
            self._filled.clear()
            await self._filled.wait()
        key = next(iter(self._waiting))
        if isinstance(key, tuple) and key[0] == "lines":
            self._lines -= 1
            self._room.set()
        return self._waiting.pop(key)
