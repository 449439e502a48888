"""What the HTML pages share: who is asking, and the filters that live in the URL."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from webui.accounts.models import User

Row = Mapping[str, Any]


def signed_in(request: HttpRequest) -> User:
    """The user behind a request that has passed `login_required`."""
    if isinstance(request.user, AnonymousUser):
        raise PermissionDenied
    return request.user


def may_operate(request: HttpRequest) -> User:
    """The signed-in user, when they may change things; PermissionDenied otherwise."""
    user = signed_in(request)
    if not user.may_operate:
        raise PermissionDenied("Your role may look, not change.")
    return user


def only(request: HttpRequest, rows: Iterable[Row]) -> list[Row]:
    """Rows named in `?only=id,id`: how a live table asks for just what changed. All rows without it."""
    wanted = request.GET.get("only")
    if wanted is None:
        return list(rows)
    ids = set(wanted.split(","))
    return [row for row in rows if str(row["id"]) in ids]


def sort_rows(rows: list[Row], order: str, keys: dict[str, Callable[[Row], Any]]) -> list[Row]:
    """Sort by `?sort=name` or `?sort=-name`; rows without a value come last either way."""
    descending = order.startswith("-")
    key = keys.get(order.removeprefix("-"))
    if key is None:
        return rows
    present = [row for row in rows if key(row) not in (None, "")]
    absent = [row for row in rows if key(row) in (None, "")]
    return sorted(present, key=key, reverse=descending) + absent
