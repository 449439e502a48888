"""The websocket of the UI, and one for each terminal or attachment; `webui.asgi` puts them behind the session and the origin check."""

from __future__ import annotations

from typing import Any

from django.urls import path, re_path

from webui.live.attaching import AttachConsumer
from webui.live.consumer import LiveConsumer, Receive, Send
from webui.live.terminal import TerminalConsumer


async def refuse(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Closed before it is opened, the server answers 403."""
    await receive()
    await send({"type": "websocket.close"})


websocket_urlpatterns = [
    # Channels' router takes Django's paths around ASGI applications, which Django's own types do not know.
    path("ws/live/", LiveConsumer.as_asgi()),  # type: ignore[arg-type]
    path("ws/containers/<str:key>/terminal/", TerminalConsumer.as_asgi()),  # type: ignore[arg-type]
    path("ws/containers/<str:key>/attach/", AttachConsumer.as_asgi()),  # type: ignore[arg-type]
    # The router takes a path that none of these is for a mistake of ours.
    re_path(r"", refuse),  # type: ignore[arg-type]
]
