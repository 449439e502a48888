"""The websocket of the UI, and one for each terminal or attachment; `webui.asgi` puts them behind the session and the origin check."""

from __future__ import annotations

from django.urls import path

from webui.live.attaching import AttachConsumer
from webui.live.consumer import LiveConsumer
from webui.live.terminal import TerminalConsumer

websocket_urlpatterns = [
    # Channels' router takes Django's paths around ASGI applications, which Django's own types do not know.
    path("ws/live/", LiveConsumer.as_asgi()),  # type: ignore[arg-type]
    path("ws/containers/<str:key>/terminal/", TerminalConsumer.as_asgi()),  # type: ignore[arg-type]
    path("ws/containers/<str:key>/attach/", AttachConsumer.as_asgi()),  # type: ignore[arg-type]
]
