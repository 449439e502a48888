"""Which host a request is about."""

from __future__ import annotations

from django.conf import settings

from runtime.errors import NotFound
from webui.hosts.models import Host


def current_host() -> Host:
    """The host this site runs on. Raises NotFound before `manage.py bootstrap` has made it."""
    hosts = Host.objects.defer("facts", "unmanaged").order_by()
    host = hosts.filter(pk=settings.ENVIRONMENT.host_id).first() or hosts.first()
    if host is None:
        raise NotFound("This site knows no host yet.", hint="Run: sudo ./slipway up")
    return host
