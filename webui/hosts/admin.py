"""Hosts in Django's admin."""

from __future__ import annotations

from django.contrib import admin

from webui.core.admin import ReadOnlyAdmin
from webui.hosts.models import Host


@admin.register(Host)
class HostAdmin(ReadOnlyAdmin):
    list_display = ["name", "id", "last_seen"]
