"""The ASGI application: HTTP to Django, websockets to the live consumer."""

from __future__ import annotations

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webui.settings")
django.setup(set_prefix=False)

# What follows imports models, which only a configured Django has.
from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402

from webui.core.bodies import BodyHandler  # noqa: E402
from webui.core.origin import SameOrigin  # noqa: E402
from webui.live.routing import websocket_urlpatterns  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": BodyHandler(),
        "websocket": SameOrigin(AuthMiddlewareStack(URLRouter(websocket_urlpatterns))),
    }
)
