"""A browser's end of a websocket, straight on an ASGI application.

`channels.testing` has one too, but cannot be imported without Daphne, which nothing else here needs.
"""

from __future__ import annotations

import json
from typing import Any

from asgiref.testing import ApplicationCommunicator

TIMEOUT = 5.0  # seconds


class Socket:
    """One connection of `user` (the scope's), in JSON."""

    def __init__(self, application: Any, user: Any) -> None:
        scope = {"type": "websocket", "path": "/ws/live/", "user": user, "headers": []}
        self._wire = ApplicationCommunicator(application, scope)

    async def open(self) -> None:
        await self._wire.send_input({"type": "websocket.connect"})
        answer = await self._wire.receive_output(TIMEOUT)
        assert answer["type"] == "websocket.accept", answer

    async def close(self) -> None:
        await self._wire.send_input({"type": "websocket.disconnect", "code": 1000})
        await self._wire.wait(TIMEOUT)

    async def send_text(self, text: str) -> None:
        await self._wire.send_input({"type": "websocket.receive", "text": text})

    async def ask(self, action: str, *topics: str, **options: Any) -> None:
        await self.send_text(
            json.dumps({"action": action, "topics": list(topics), "options": options})
        )

    async def message(self) -> dict[str, Any]:
        """The next message."""
        event = await self._wire.receive_output(TIMEOUT)
        assert event["type"] == "websocket.send", event
        message: dict[str, Any] = json.loads(event["text"])
        return message

    async def messages(self, count: int) -> list[dict[str, Any]]:
        return [await self.message() for _ in range(count)]

    async def is_silent(self) -> bool:
        """Whether nothing comes for a moment."""
        return bool(await self._wire.receive_nothing(0.05))

    async def close_code(self) -> int:
        """The code with which the server closes."""
        event = await self._wire.receive_output(TIMEOUT)
        assert event["type"] == "websocket.close", event
        code: int = event["code"]
        return code
