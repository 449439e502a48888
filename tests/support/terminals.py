"""A terminal's or an attachment's websocket, as a browser has it."""

from __future__ import annotations

import json
import time
from typing import Any, Self
from urllib.parse import urlencode

import httpx
from websockets import Origin
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect


class Attached:
    """A client of a container's own process, or (`what`) of a new "terminal"; use as a context manager."""

    def __init__(
        self,
        session: httpx.Client,
        url: str,
        container: str,
        *,
        what: str = "attach",
        **query: Any,
    ) -> None:
        cookies = "; ".join(f"{name}={value}" for name, value in session.cookies.items())
        self._opening = connect(
            url.replace("http://", "ws://")
            + f"/ws/containers/{container}/{what}/?{urlencode(query)}",
            additional_headers={"Cookie": cookies},
            origin=Origin(url),
            ping_interval=None,  # one that does not read would not hear its answer
        )
        self.output = b""
        self.said: list[dict[str, Any]] = []  # messages that are no output

    def __enter__(self) -> Self:
        self._socket = self._opening.__enter__()
        return self

    def __exit__(self, *failure: Any) -> None:
        self._opening.__exit__(*failure)

    def type(self, data: bytes) -> None:
        self._socket.send(data)

    def tell(self, **message: Any) -> None:
        self._socket.send(json.dumps(message))

    def wait_for(self, text: bytes, timeout: float = 10.0) -> bytes:
        """All output so far, once `text` is in it."""
        deadline = time.monotonic() + timeout
        while text not in self.output:
            assert self._receive(deadline), (self.output[-2000:], self.said)
        return self.output

    def first(self) -> dict[str, Any]:
        """The first message that is no output."""
        deadline = time.monotonic() + 10
        while not self.said:
            assert self._receive(deadline), self.output
        return self.said[0]

    def end(self, timeout: float = 10.0) -> tuple[dict[str, Any], int]:
        """The last message, and the code with which the server closes."""
        deadline = time.monotonic() + timeout
        while self._receive(deadline):
            pass
        assert time.monotonic() < deadline, (self.output[-2000:], self.said)
        return self.said[-1], self._socket.protocol.close_code or 0

    def _receive(self, deadline: float) -> bool:
        try:
            message = self._socket.recv(timeout=max(deadline - time.monotonic(), 0.01))
        except (ConnectionClosed, TimeoutError):
            return False
        if isinstance(message, bytes):
            self.output += message
        else:
            self.said.append(json.loads(message))
        return True
