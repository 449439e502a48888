"""What the admin pages share: observed facts are shown, not edited; actions go through the services."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.db.models import Model
from django.http import HttpRequest

from runtime.errors import EngineError
from webui.accounts.models import User
from webui.core.errors import NotAllowed

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
    TabularInline = admin.TabularInline[Any, Any]
else:
    ModelAdmin, TabularInline = admin.ModelAdmin, admin.TabularInline


class _ReadOnly:
    """A row written here would change nothing on the host, so none is."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnlyAdmin(_ReadOnly, ModelAdmin):
    """Lists, searches and shows. Rows come and go with what they stand for."""

    def has_act_permission(self, request: HttpRequest) -> bool:
        """Who may use actions marked `permissions=["act"]`."""
        return isinstance(request.user, User) and request.user.may_operate


class ReadOnlyInline(_ReadOnly, TabularInline):
    extra = 0


def ask_for_each(
    request: HttpRequest, rows: Iterable[Model], ask: Callable[[Any, User], object]
) -> None:
    """Call `ask(row, user)` for every chosen row, and say what was asked for and what was refused."""
    user = request.user
    if not isinstance(user, User) or not user.may_operate:
        raise NotAllowed("Your role may look, not change.")
    asked = []
    for row in rows:
        try:
            ask(row, user)
        except EngineError as error:
            # In quotes, because the page capitalises the first letter.
            messages.error(request, f"“{row}”: {error.message} {error.hint}".strip())
        else:
            asked.append(str(row))
    if asked:
        messages.success(request, f"Asked for: {', '.join(asked)}. Operations show how it goes.")
