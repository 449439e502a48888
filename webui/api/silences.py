"""/api/v1/containers/{key}/silences: advice that somebody has judged and put aside."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Router, Status
from pydantic import Field
from typing_extensions import TypedDict

from webui.advisor import services
from webui.advisor.models import Silence
from webui.api.auth import operator, reader
from webui.containers.requests import Request
from webui.containers.selectors import container_find
from webui.core.payloads import stamp

router = Router()


class SilenceRequest(Request):
    rule: str
    reason: str = Field(max_length=255)


class SilenceRow(TypedDict):
    rule: str
    reason: str
    user: str | None
    created_at: str | None


def _row(silence: Silence) -> SilenceRow:
    return {
        "rule": silence.rule,
        "reason": silence.reason,
        "user": silence.user.get_username() if silence.user else None,
        "created_at": stamp(silence.created_at),
    }


@router.get("/{key}/silences", response=list[Any])
def silence_list(request: HttpRequest, key: str) -> list[SilenceRow]:
    """What is silenced for this container, by whom and why."""
    reader(request)
    found = Silence.objects.filter(container=container_find(key)).select_related("user")
    return [_row(silence) for silence in found.order_by("rule")]


@router.post("/{key}/silences", response={201: Any})
def silence_create(request: HttpRequest, key: str, body: SilenceRequest) -> Status[SilenceRow]:
    """Put one rule's advice aside, with the reason."""
    user, _ = operator(request)
    silence = services.silence_create(
        container=container_find(key), rule=body.rule, reason=body.reason, user=user
    )
    return Status(201, _row(silence))


@router.delete("/{key}/silences/{rule}", response={204: None})
def silence_remove(request: HttpRequest, key: str, rule: str) -> Any:
    """Show the advice again."""
    operator(request)
    services.silence_remove(container=container_find(key), rule=rule)
    return Status(204, None)
