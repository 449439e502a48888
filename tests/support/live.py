"""The websocket as a browser sees it, for tests."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, Self

import httpx
from websockets import Origin
from websockets.sync.client import connect


class Live:
    """A connection to /ws/live/ with a session's cookie; messages are dicts in the order they came."""

    def __init__(self, session: httpx.Client, url: str) -> None:
        cookies = "; ".join(f"{name}={value}" for name, value in session.cookies.items())
        self._opening = connect(
            url.replace("http://", "ws://") + "/ws/live/",
            additional_headers={"Cookie": cookies},
            origin=Origin(url),
        )
        self.seen: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        self._socket = self._opening.__enter__()
        return self

    def __exit__(self, *failure: Any) -> None:
        self._opening.__exit__(*failure)

    def subscribe(self, *topics: str, **options: Any) -> None:
        self._socket.send(json.dumps({"action": "subscribe", "topics": topics, "options": options}))

    def wait_for(
        self, wanted: Callable[[dict[str, Any]], Any], *, timeout: float = 10.0
    ) -> dict[str, Any]:
        """The next message that `wanted` accepts; AssertionError with what came instead."""
        deadline = time.monotonic() + timeout
        came = []
        while (left := deadline - time.monotonic()) > 0:
            try:
                message: dict[str, Any] = json.loads(self._socket.recv(timeout=left))
            except TimeoutError:
                break
            self.seen.append(message)
            came.append(message)
            if wanted(message):
                return message
        shown = "\n".join(json.dumps(m)[:300] for m in came[-15:])
        raise AssertionError(f"Not within {timeout} s. What came:\n{shown}")
