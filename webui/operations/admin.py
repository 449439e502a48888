"""Operations and events in Django's admin."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from webui.core.admin import ReadOnlyAdmin, ask_for_each
from webui.operations.models import Event, Operation
from webui.operations.services import operation_cancel


@admin.register(Operation)
class OperationAdmin(ReadOnlyAdmin):
    list_display = ["kind", "target_name", "status", "user", "via", "created_at", "finished_at"]
    list_filter = ["status", "kind", "via"]
    search_fields = ["target_name", "target_id", "id"]
    list_select_related = ["user"]
    actions = ["cancel"]

    @admin.action(description="Cancel", permissions=["act"])
    def cancel(self, request: HttpRequest, rows: QuerySet[Operation]) -> None:
        ask_for_each(
            request,
            rows.select_related("host", "user"),
            lambda operation, user: operation_cancel(operation=operation, user=user),
        )


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    list_display = ["time", "type", "target_name", "user"]
    list_filter = ["type"]
    search_fields = ["target_name", "target_id"]
    list_select_related = ["user"]
    date_hierarchy = "time"
