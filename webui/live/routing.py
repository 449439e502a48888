"""The one websocket of the UI; `webui.asgi` puts it behind the session and the origin check."""

from __future__ import annotations

from django.urls import path

from webui.live.consumer import LiveConsumer

websocket_urlpatterns = [
    # Channels' router takes Django's paths around ASGI applications, which Django's own types do not know.
    path("ws/live/", LiveConsumer.as_asgi()),  # type: ignore[arg-type]
]
