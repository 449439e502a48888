"""/api/v1/events"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Router

from webui.api.auth import reader
from webui.core.payloads import event_row
from webui.operations.models import Event

router = Router()


@router.get("", response=list[Any])
def event_list(
    request: HttpRequest,
    type: str = "",  # noqa: A002 - the name of the parameter
    target: str = "",
    limit: int = 100,
    offset: int = 0,
) -> list[Any]:
    """Newest first, at most 500 at a time; `type` is a prefix such as "container."."""
    reader(request)
    found = Event.objects.select_related("user")
    if type:
        found = found.filter(type__startswith=type)
    if target:
        found = found.filter(target_id=target)
    start = max(offset, 0)
    return [event_row(e) for e in found[start : start + min(max(limit, 1), 500)]]
