"""The page of volumes and its dialogs."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from webui.core import payloads
from webui.core.pages import may_operate, only
from webui.volumes.models import Volume
from webui.volumes.services import volumes


@login_required
def volume_list(request: HttpRequest) -> HttpResponse:
    """Volumes, their size, and who uses them."""
    query = request.GET.get("q", "").lower()
    rows = [payloads.volume_row(volume) for volume in volumes()]
    matching = [row for row in rows if query in row["name"].lower()]
    return render(
        request,
        "pages/volumes.html",
        {"rows": only(request, matching), "total": len(rows), "query": query},
    )


@login_required
def create_dialog(request: HttpRequest) -> HttpResponse:
    may_operate(request)
    return render(request, "dialogs/volume_create.html")


@login_required
def remove_dialog(request: HttpRequest, volume_name: str) -> HttpResponse:
    """Says how much data goes, and refuses early when a container still mounts it."""
    may_operate(request)
    volume = get_object_or_404(Volume.objects.prefetch_related("mounts"), name=volume_name)
    return render(
        request,
        "dialogs/volume_remove.html",
        {"row": payloads.volume_row(volume), "mounts": volume.mounts.select_related("container")},
    )
