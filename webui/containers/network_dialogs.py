"""Dialogs about one container's networks: join another one, leave one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from runtime.model.state import Status
from webui.containers.models import Container
from webui.core.pages import may_operate
from webui.networks.models import Endpoint, Network

# Of a container's specification: whose network it has instead of one of its own.
MODE = "spec__namespaces__network"


def joinable(container: Container) -> bool:
    """Whether it has a network of its own, which others can be joined to."""
    mode = container.spec.get("namespaces", {}).get("network", "")
    return container.present and not mode and Status(container.status).allows("update")


@login_required
def connect_dialog(request: HttpRequest, container_id: str) -> HttpResponse:
    """The networks that the container is not on, and what it is to have there."""
    may_operate(request)
    container = get_object_or_404(Container, id=container_id)
    others = Network.objects.filter(host=container.host_id).exclude(endpoints__container=container)
    context = {"container": container, "networks": others.order_by("-is_default", "name")}
    return render(request, "dialogs/network_connect.html", context)


@login_required
def connect_to_dialog(request: HttpRequest, network_id: str) -> HttpResponse:
    """The same from the network's side: the containers that can be joined to it, and those that can be taken off."""
    may_operate(request)
    network = get_object_or_404(Network, id=network_id)
    others = Container.objects.filter(host=network.host_id, present=True).exclude(
        endpoints__network=network
    )
    names = others.filter(**{MODE: ""}).exclude(status__in=(Status.DEAD, Status.UNKNOWN))
    members = network.endpoints.select_related("container").order_by("container__name")
    context = {
        "network": network,
        "containers": names.order_by("name").values("name"),
        "members": [each for each in members if joinable(each.container)],
    }
    return render(request, "dialogs/network_connect.html", context)


@login_required
def disconnect_dialog(request: HttpRequest, container_id: str, network_id: str) -> HttpResponse:
    """What it loses by that, and what becomes of its published ports."""
    may_operate(request)
    endpoints = Endpoint.objects.select_related("container", "network")
    endpoint = get_object_or_404(endpoints, container=container_id, network=network_id)
    context = {
        "endpoint": endpoint,
        "container": endpoint.container,
        "ports": endpoint.container.spec.get("ports", []),
        "home": _home_without(endpoint),
    }
    return render(request, "dialogs/network_disconnect.html", context)


def _home_without(endpoint: Endpoint) -> Mapping[str, Any] | None:
    """The network that published ports lead through when this one is gone: the first with a way out."""
    others = endpoint.container.endpoints.exclude(pk=endpoint.pk).order_by("pk")
    rows = list(others.values("network__name", "network__internal"))
    return min(rows, key=lambda row: row["network__internal"], default=None)
