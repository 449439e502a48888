"""Volumes in Django's admin."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from webui.core.admin import ReadOnlyAdmin, ReadOnlyInline, ask_for_each
from webui.volumes.models import Volume, VolumeMount
from webui.volumes.services import volume_remove


class MountInline(ReadOnlyInline):
    model = VolumeMount


@admin.register(Volume)
class VolumeAdmin(ReadOnlyAdmin):
    list_display = ["name", "anonymous", "size", "created_at"]
    list_filter = ["anonymous", "host"]
    search_fields = ["name"]
    inlines = [MountInline]
    actions = ["remove"]

    @admin.action(description="Remove with their data (unmounted ones)", permissions=["act"])
    def remove(self, request: HttpRequest, rows: QuerySet[Volume]) -> None:
        ask_for_each(
            request,
            rows.select_related("host"),
            lambda volume, user: volume_remove(volume=volume, user=user, via="admin"),
        )


@admin.register(VolumeMount)
class VolumeMountAdmin(ReadOnlyAdmin):
    list_display = ["volume", "container", "target", "read_only"]
    search_fields = ["volume__name", "container__name", "target"]
