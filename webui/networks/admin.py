"""Networks, endpoints and published ports in Django's admin."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from webui.core.admin import ReadOnlyAdmin, ReadOnlyInline, ask_for_each
from webui.networks.models import Endpoint, Network, PortReservation
from webui.networks.services import network_remove


class EndpointInline(ReadOnlyInline):
    model = Endpoint


@admin.register(Network)
class NetworkAdmin(ReadOnlyAdmin):
    list_display = ["name", "subnet", "gateway", "subnet6", "internal", "is_default", "created_at"]
    list_filter = ["internal", "host"]
    search_fields = ["name", "id", "subnet", "subnet6"]
    inlines = [EndpointInline]
    actions = ["remove"]

    @admin.action(description="Remove (unused ones)", permissions=["act"])
    def remove(self, request: HttpRequest, rows: QuerySet[Network]) -> None:
        ask_for_each(
            request,
            rows.select_related("host"),
            lambda network, user: network_remove(network=network, user=user, via="admin"),
        )


@admin.register(Endpoint)
class EndpointAdmin(ReadOnlyAdmin):
    list_display = ["address", "address6", "network", "container", "mac_address"]
    search_fields = ["address", "address6", "container__name", "network__name"]


@admin.register(PortReservation)
class PortReservationAdmin(ReadOnlyAdmin):
    list_display = ["host_port", "protocol", "host_ip", "container_port", "container"]
    list_filter = ["protocol"]
    search_fields = ["host_port", "container__name"]
