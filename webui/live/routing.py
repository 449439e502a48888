"""The one websocket of the UI; `webui.asgi` puts it behind the session and the origin check."""

from __future__ import annotations

from django.urls import path

from webui.live.consumer import LiveConsumer

websocket_urlpatterns = [path("ws/live/", LiveConsumer.as_asgi())]
