"""The overview, and the search behind Ctrl-K."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.contrib.auth.decorators import login_required
from django.db.models import Case, Q, QuerySet, When
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse

from runtime.model.state import Status
from webui.containers.models import Container
from webui.containers.selectors import containers
from webui.core import payloads
from webui.core.templatetags.ui import familiar
from webui.hosts.models import Host
from webui.images.models import Image, Reference
from webui.networks.models import Network
from webui.operations.models import Event
from webui.volumes.models import Volume

SEARCH_LIMIT = 8
SEVERITIES = {"danger": 0, "critical": 0, "warning": 1}


@login_required
def overview(request: HttpRequest) -> HttpResponse:
    """The host at a glance: what runs, what uses most, what needs attention."""
    rows = payloads.container_rows(containers())
    states = Counter(row["status"] for row in rows)
    advice: list[dict[str, Any]] = [
        {"container": row, **advice} for row in rows for advice in row["advice"]
    ]
    advice.sort(key=lambda item: SEVERITIES.get(item["severity"], 2))
    host = Host.objects.order_by("name").first()
    return render(
        request,
        "pages/overview.html",
        {
            "host": payloads.host_row(host) if host else None,
            "states": [(status, states[status]) for status in Status if states[status]],
            "containers": rows,
            "running": [row for row in rows if row["status"] in (Status.RUNNING, Status.PAUSED)],
            "advice": advice,
            "events": [
                payloads.event_row(event) for event in Event.objects.select_related("user")[:12]
            ],
            "image_count": Image.objects.count(),
            "volume_count": Volume.objects.count(),
        },
    )


@login_required
def search(request: HttpRequest) -> JsonResponse:
    """`?q=` → {"groups": [{"title", "items": [{"label", "detail", "url", "icon"}]}]}."""
    query = request.GET.get("q", "").strip()
    found = [
        ("Containers", _container_hits(query)),
        ("Images", _image_hits(query)),
        ("Volumes", _named_hits(Volume.objects.filter(name__icontains=query), "volumes", "volume")),
        (
            "Networks",
            _named_hits(Network.objects.filter(name__icontains=query), "networks", "network"),
        ),
    ]
    groups = [{"title": title, "items": items} for title, items in found if items]
    return JsonResponse({"groups": groups})


def _container_hits(query: str) -> list[dict[str, Any]]:
    matches = Container.objects.filter(
        Q(name__icontains=query) | Q(id__startswith=query) | Q(image_reference__icontains=query)
    )
    # The image of most containers may contain the word, too, such as "late" in "latest".
    named = Case(
        When(name__istartswith=query, then=0), When(name__icontains=query, then=1), default=2
    )
    return [
        {
            "label": container.name,
            "detail": container.image_reference,
            "status": container.status,
            "url": reverse("container", args=[container.id]),
            "icon": "container",
        }
        for container in matches.order_by(named, "name")[:SEARCH_LIMIT]
    ]


def _image_hits(query: str) -> list[dict[str, Any]]:
    matches = Reference.objects.select_related("image").filter(name__icontains=query)
    return [
        {
            "label": familiar(reference.name),
            "detail": str(reference.image),
            "url": reverse("image", args=[reference.image.digest]),
            "icon": "image",
        }
        for reference in matches.order_by("name")[:SEARCH_LIMIT]
    ]


def _named_hits(
    matches: QuerySet[Volume] | QuerySet[Network], page: str, icon: str
) -> list[dict[str, Any]]:
    return [
        {"label": item.name, "detail": "", "url": f"{reverse(page)}?q={item.name}", "icon": icon}
        for item in matches.order_by("name")[:SEARCH_LIMIT]
    ]
