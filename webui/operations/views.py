"""Who asked for what, how it went, and what happened."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from webui.core import payloads
from webui.core.pages import only
from webui.operations.models import Event, Operation

PAGE_SIZE = 100
TARGET_TYPES = ("container", "image", "volume", "network", "host")


@login_required
def operation_list(request: HttpRequest) -> HttpResponse:
    """Newest first; `status` and `q` filter."""
    status, query = request.GET.get("status", ""), request.GET.get("q", "")
    operations = Operation.objects.select_related("user")
    if status:
        operations = operations.filter(status=status)
    if query:
        operations = operations.filter(Q(kind__icontains=query) | Q(target_name__icontains=query))
    page = Paginator(operations, PAGE_SIZE).get_page(request.GET.get("page"))
    return render(
        request,
        "pages/operations.html",
        {
            "rows": only(request, [payloads.operation_row(operation) for operation in page]),
            "page": page,
            "statuses": Operation.Status.values,
            "status": status,
            "query": query,
        },
    )


@login_required
def event_list(request: HttpRequest) -> HttpResponse:
    """A timeline of facts; `type` (what kind of object) and `q` filter."""
    kind, query = request.GET.get("type", ""), request.GET.get("q", "")
    events = Event.objects.select_related("user")
    if kind:
        events = events.filter(target_type=kind)
    if query:
        events = events.filter(Q(type__icontains=query) | Q(target_name__icontains=query))
    page = Paginator(events, PAGE_SIZE).get_page(request.GET.get("page"))
    return render(
        request,
        "pages/events.html",
        {
            "events": [payloads.event_row(event) for event in page],
            "page": page,
            "kinds": TARGET_TYPES,
            "kind": kind,
            "query": query,
        },
    )
