"""/api/v1/tokens: one's own."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from ninja import Router, Status
from pydantic import Field
from typing_extensions import TypedDict

from runtime.errors import NotFound
from webui.accounts.models import ApiToken
from webui.accounts.services import token_create
from webui.api.auth import reader
from webui.containers.requests import Request
from webui.core.errors import NotAllowed
from webui.core.payloads import stamp

router = Router()


class TokenRequest(Request):
    name: str = Field(min_length=1, max_length=100)
    read_only: bool = False
    expires_in_days: int | None = Field(default=None, ge=1, le=3650)


class TokenRow(TypedDict):
    id: int
    name: str
    prefix: str
    read_only: bool
    created_at: str | None
    expires_at: str | None
    last_used_at: str | None


class NewToken(TokenRow):
    token: str


def _row(token: ApiToken) -> TokenRow:
    return {
        "id": token.pk,
        "name": token.name,
        "prefix": token.prefix,
        "read_only": token.read_only,
        "created_at": stamp(token.created_at),
        "expires_at": stamp(token.expires_at),
        "last_used_at": stamp(token.last_used_at),
    }


@router.get("", response=list[Any])
def token_list(request: HttpRequest) -> list[TokenRow]:
    user = reader(request)
    return [_row(t) for t in user.tokens.order_by("-created_at")]


@router.post("", response={201: Any})
def token_make(request: HttpRequest, body: TokenRequest) -> Status[NewToken]:
    """The answer's `token` is shown this once and not kept."""
    user = reader(request)
    if getattr(request, "slipway_read_only", False):
        raise NotAllowed("A token that may only read makes no tokens.")
    expires = None
    if body.expires_in_days:
        expires = timezone.now() + timedelta(days=body.expires_in_days)
    token, text = token_create(
        user=user, name=body.name, read_only=body.read_only, expires_at=expires
    )
    return Status(201, {**_row(token), "token": text})


@router.delete("/{token_id}", response={204: None})
def token_revoke(request: HttpRequest, token_id: int) -> Any:
    user = reader(request)
    if getattr(request, "slipway_read_only", False):
        raise NotAllowed("A token that may only read revokes no tokens.")
    if not user.tokens.filter(pk=token_id).delete()[0]:
        raise NotFound("You have no such token.")
    return Status(204, None)
