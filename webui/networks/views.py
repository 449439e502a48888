"""The page of networks and its dialogs."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from runtime.model.state import Status
from webui.core import payloads
from webui.core.pages import may_operate, only
from webui.networks.models import Network
from webui.networks.selectors import networks


@login_required
def network_list(request: HttpRequest) -> HttpResponse:
    """Networks with subnet, gateway and members."""
    query = request.GET.get("q", "").lower()
    rows = [
        payloads.network_row(network)
        for network in networks().order_by("-is_default", "name")
        if query in network.name.lower()
    ]
    return render(request, "pages/networks.html", {"rows": only(request, rows), "query": query})


@login_required
def create_dialog(request: HttpRequest) -> HttpResponse:
    may_operate(request)
    return render(request, "dialogs/network_create.html")


@login_required
def move_dialog(request: HttpRequest, network_id: str) -> HttpResponse:
    """Another subnet: whose addresses change, and who must be stopped before."""
    may_operate(request)
    network = get_object_or_404(Network, id=network_id)
    endpoints = list(network.endpoints.select_related("container").order_by("container__name"))
    running = [e for e in endpoints if Status(e.container.status).is_active]
    return render(
        request,
        "dialogs/network_move.html",
        {"row": payloads.network_row(network), "endpoints": endpoints, "running": running},
    )


@login_required
def remove_dialog(request: HttpRequest, network_id: str) -> HttpResponse:
    """Names the members that keep a network from being removed."""
    may_operate(request)
    network = get_object_or_404(Network, id=network_id)
    return render(
        request,
        "dialogs/network_remove.html",
        {
            "row": payloads.network_row(network),
            "endpoints": network.endpoints.select_related("container"),
        },
    )
