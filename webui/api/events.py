"""/api/v1/events"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest
from ninja import Router

from webui.api.answers import FURTHEST
from webui.api.auth import reader
from webui.api.times import parse_time
from webui.core.payloads import event_row
from webui.core.rows import EventRow
from webui.operations.models import Event

router = Router()


@router.get("", response=list[Any])
def event_list(
    request: HttpRequest,
    type: str = "",  # noqa: A002 - the name of the parameter
    target: str = "",
    since: str = "",
    until: str = "",
    limit: int = 100,
    offset: int = 0,
) -> list[EventRow]:
    """Newest first, at most 500 at a time; `type` is a prefix such as "container.". `since` and `until`: RFC 3339,
    Unix seconds, or a duration before now ("10m"). The websocket's topic `events` brings each as it happens.
    """
    reader(request)
    found = Event.objects.select_related("user")
    if type:
        found = found.filter(type__startswith=type)
    if target:
        found = found.filter(target_id=target)
    for name, text, lookup in (("since", since, "time__gte"), ("until", until, "time__lte")):
        if (moment := parse_time(text, name)) is not None:
            found = found.filter(**{lookup: datetime.fromtimestamp(moment, UTC)})
    start = min(max(offset, 0), FURTHEST)
    return [event_row(e) for e in found[start : start + min(max(limit, 1), 500)]]
