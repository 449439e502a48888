"""Containers in Django's admin."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from runtime.model.state import Action
from webui.accounts.models import User
from webui.containers.models import Container
from webui.containers.services import container_act
from webui.core.admin import ReadOnlyAdmin, ReadOnlyInline, ask_for_each
from webui.networks.models import Endpoint, PortReservation
from webui.volumes.models import VolumeMount


class EndpointInline(ReadOnlyInline):
    model = Endpoint


class PortInline(ReadOnlyInline):
    model = PortReservation
    fields = ["host_ip", "host_port", "container_port", "protocol"]


class MountInline(ReadOnlyInline):
    model = VolumeMount


def _ask(request: HttpRequest, rows: QuerySet[Container], action: Action, **params: Any) -> None:
    def ask(container: Container, user: User) -> None:
        container_act(container=container, action=action, user=user, via="admin", params=params)

    ask_for_each(request, rows.select_related("host"), ask)


@admin.register(Container)
class ContainerAdmin(ReadOnlyAdmin):
    list_display = ["name", "short_id", "status", "image_reference", "exit_code", "created_at"]
    list_filter = ["status", "oom_killed", "managed", "host"]
    search_fields = ["name", "id", "image_reference"]
    inlines = [PortInline, EndpointInline, MountInline]
    actions = ["start", "stop", "restart", "kill", "remove"]

    @admin.display(description="id")
    def short_id(self, container: Container) -> str:
        return container.pk[:12]

    @admin.action(description="Start", permissions=["act"])
    def start(self, request: HttpRequest, rows: QuerySet[Container]) -> None:
        _ask(request, rows, "start")

    @admin.action(description="Stop", permissions=["act"])
    def stop(self, request: HttpRequest, rows: QuerySet[Container]) -> None:
        _ask(request, rows, "stop")

    @admin.action(description="Restart", permissions=["act"])
    def restart(self, request: HttpRequest, rows: QuerySet[Container]) -> None:
        _ask(request, rows, "restart")

    @admin.action(description="Kill (SIGKILL)", permissions=["act"])
    def kill(self, request: HttpRequest, rows: QuerySet[Container]) -> None:
        _ask(request, rows, "kill", signal="SIGKILL")

    @admin.action(
        description="Remove (stopped ones, with their writable layer)", permissions=["act"]
    )
    def remove(self, request: HttpRequest, rows: QuerySet[Container]) -> None:
        _ask(request, rows, "remove")
