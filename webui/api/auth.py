"""Who asks: a signed-in browser (session and CSRF token) or a program (bearer token)."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from ninja.security import APIKeyCookie, HttpBearer

from webui.accounts.models import User
from webui.accounts.services import token_user
from webui.core.errors import NotAllowed

SAFE = ("GET", "HEAD", "OPTIONS")


class BearerAuth(HttpBearer):
    """`Authorization: Bearer slw_…`."""

    def authenticate(self, request: HttpRequest, token: str) -> User | None:
        found = token_user(token)
        if found is None:
            return None
        request.user = found.user
        request.slipway_via = "api"  # type: ignore[attr-defined]
        request.slipway_read_only = found.read_only  # type: ignore[attr-defined]
        return found.user


class SessionAuth(APIKeyCookie):
    """The site's session cookie; ninja checks the CSRF token of everything that is not safe."""

    param_name = settings.SESSION_COOKIE_NAME

    def __call__(self, request: HttpRequest) -> Any:
        # Before the CSRF token is looked for, which reads the body: a stranger's is not worth it.
        if not request.user.is_authenticated:
            return None
        return super().__call__(request)

    def authenticate(self, request: HttpRequest, key: str | None) -> Any:
        request.slipway_via = "ui"  # type: ignore[attr-defined]
        request.slipway_read_only = False  # type: ignore[attr-defined]
        return request.user


def reader(request: HttpRequest) -> User:
    """The user; everybody who is signed in may look."""
    user = request.user
    if not isinstance(user, User):
        raise NotAllowed("Sign in first.")
    return user


def reads_values(request: HttpRequest) -> bool:
    """Whether who asks may read the values of variables: who may run commands, with a token for more than reading."""
    return reader(request).may_operate and not getattr(request, "slipway_read_only", False)


def admin(request: HttpRequest) -> tuple[User, str]:
    """As `operator`, of somebody who may change settings. Raises NotAllowed."""
    user, via = operator(request)
    if not user.is_admin:
        raise NotAllowed("Only an admin may do this.", hint="Ask an admin.")
    return user, via


def operator(request: HttpRequest) -> tuple[User, str]:
    """(user, "ui" or "api") of somebody who may change things. Raises NotAllowed."""
    user = reader(request)
    if not user.may_operate:
        raise NotAllowed(
            "Your role may look, not change.", hint="Ask an admin for the role operator."
        )
    if getattr(request, "slipway_read_only", False):
        raise NotAllowed("This token may only read.", hint="Make one that may change things.")
    return user, str(getattr(request, "slipway_via", "api"))
