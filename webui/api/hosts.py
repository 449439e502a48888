"""/api/v1/hosts"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Router

from webui.api.auth import reader
from webui.core.payloads import host_row
from webui.core.rows import HostRow
from webui.hosts.models import Host

router = Router()


@router.get("", response=list[Any])
def host_list(request: HttpRequest) -> list[HostRow]:
    reader(request)
    return [host_row(h) for h in Host.objects.order_by("name")]
