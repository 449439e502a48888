"""Which host a request is about."""

from __future__ import annotations

from django.conf import settings
from django.db.models import QuerySet

from runtime.errors import NotFound
from webui.core.prepared import first, prepared
from webui.hosts.models import Host


def current_host() -> Host:
    """The host this site runs on. Raises NotFound before `manage.py bootstrap` has made it."""
    host = first(_host(settings.ENVIRONMENT.host_id)) or _hosts().first()
    if host is None:
        raise NotFound("This site knows no host yet.", hint="Run: sudo ./slipway up")
    return host


@prepared
def _host(host_id: str) -> QuerySet[Host]:
    return _hosts().filter(pk=host_id)


def _hosts() -> QuerySet[Host]:
    return Host.objects.defer("facts", "unmanaged").order_by()
