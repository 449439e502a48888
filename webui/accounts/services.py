"""Writes to accounts: tokens and the first administrator."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta

from django.db.models import QuerySet
from django.utils import timezone

from webui.accounts.models import ApiToken, User
from webui.core.prepared import first, prepared

PREFIX = "slw_"
_SEEN_EVERY = timedelta(minutes=1)  # how exact "last used" is


def token_create(
    *, user: User, name: str, read_only: bool = False, expires_at: datetime | None = None
) -> tuple[ApiToken, str]:
    """A token and its text, which is shown once and not kept."""
    text = PREFIX + secrets.token_urlsafe(32)
    token = ApiToken.objects.create(
        user=user,
        name=name,
        prefix=text[:12],
        digest=_digest(text),
        read_only=read_only,
        expires_at=expires_at,
    )
    return token, text


def token_user(text: str) -> ApiToken | None:
    """The valid token with this text, with its user; None for a wrong, expired or locked one."""
    token = first(_with_digest(_digest(text)))
    now = timezone.now()
    if token is None or not token.user.is_active:
        return None
    if token.expires_at is not None and token.expires_at <= now:
        return None
    if token.last_used_at is None or now - token.last_used_at > _SEEN_EVERY:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
    return token


@prepared
def _with_digest(digest: str) -> QuerySet[ApiToken]:
    return ApiToken.objects.select_related("user").filter(digest=digest).order_by()


def _digest(text: str) -> str:
    # 256 random bits need no slow hash.
    return hashlib.sha256(text.encode()).hexdigest()


def admin_create_first() -> tuple[User, str] | None:
    """The first administrator with a random password; None when there is somebody already."""
    if User.objects.filter(is_superuser=True).exists():
        return None
    password = secrets.token_urlsafe(12)
    user = User.objects.create_superuser("admin", password=password, role=User.Role.ADMIN)
    return user, password
