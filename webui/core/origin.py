"""Websockets only from our own pages: the browser sends cookies with any of them, whoever asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.http.request import validate_host

Application = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


class SameOrigin:
    """ASGI middleware that refuses a handshake whose Origin is not the Host it came to (403)."""

    def __init__(self, inner: Application) -> None:
        self._inner = inner

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        origin = headers.get(b"origin", b"").decode("latin-1")
        name = urlsplit(f"//{host}").hostname or ""
        if urlsplit(origin).netloc == host and validate_host(name, settings.ALLOWED_HOSTS):
            await self._inner(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})
