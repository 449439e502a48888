"""Silenced advice in Django's admin."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from webui.accounts.models import User
from webui.advisor.models import Silence
from webui.advisor.services import silence_remove
from webui.core.admin import ReadOnlyAdmin, ask_for_each


@admin.register(Silence)
class SilenceAdmin(ReadOnlyAdmin):
    list_display = ["container", "rule", "reason", "user", "created_at"]
    list_filter = ["rule"]
    list_select_related = ["container", "user"]
    actions = ["show_again"]

    @admin.action(description="Show the advice again", permissions=["act"])
    def show_again(self, request: HttpRequest, rows: QuerySet[Silence]) -> None:
        def ask(silence: Any, _: User) -> None:
            silence_remove(container=silence.container, rule=silence.rule)

        ask_for_each(request, rows.select_related("container"), ask)
