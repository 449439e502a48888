"""Pages of images, and the dialogs that bring them in and take them away."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render

from runtime.errors import NotFound
from webui.core import payloads
from webui.core.pages import may_operate, only, signed_in
from webui.core.redact import names_only
from webui.hosts.selectors import current_host
from webui.images.models import Image, Registry
from webui.images.selectors import image_find, images
from webui.operations.models import Operation

LIST_DIALOGS = ("pull", "import")
IMAGE_DIALOGS = ("remove", "tag")


@login_required
def image_list(request: HttpRequest) -> HttpResponse:
    """Images with their names and sizes; pulls and imports under way stand above them."""
    query = request.GET.get("q", "").lower()
    rows = [payloads.image_row(image) for image in images()]
    matching = [
        row
        for row in rows
        if not query or query in row["id"] or any(query in name for name in row["references"])
    ]
    live = Operation.objects.filter(
        target_type="image", status__in=[Operation.Status.PENDING, Operation.Status.RUNNING]
    )
    return render(
        request,
        "pages/images.html",
        {
            "rows": only(request, matching),
            "total": len(rows),
            "query": query,
            "live": [payloads.operation_row(operation) for operation in live],
        },
    )


@login_required
def image_detail(request: HttpRequest, image_id: str) -> HttpResponse:
    """One image: its layers with the command that made each, its config, its containers."""
    image = _find(image_id)
    env = image.config.get("env") or []
    return render(
        request,
        "pages/image.html",
        {
            "row": payloads.image_row(image),
            "image": image,
            "config": image.config,
            "env": env if signed_in(request).may_operate else names_only(env),
            "layers": [
                {"number": number, **layer} for number, layer in enumerate(image.layers, start=1)
            ],
            "containers": image.containers.order_by("name"),
        },
    )


@login_required
def images_dialog(request: HttpRequest, name: str) -> HttpResponse:
    """Pull from a registry, or import an archive."""
    may_operate(request)
    if name not in LIST_DIALOGS:
        raise Http404
    return render(
        request,
        f"dialogs/image_{name}.html",
        {"registries": Registry.objects.order_by("hostname")},
    )


@login_required
def image_dialog(request: HttpRequest, image_id: str, name: str) -> HttpResponse:
    """Tag or remove one image."""
    may_operate(request)
    if name not in IMAGE_DIALOGS:
        raise Http404
    image = _find(image_id)
    return render(
        request,
        f"dialogs/image_{name}.html",
        {
            "row": payloads.image_row(image),
            "containers": image.containers.order_by("name"),
        },
    )


def _find(image_id: str) -> Image:
    """By digest ("sha256:…"), or by enough of its hex digits to name exactly one."""
    try:
        return image_find(current_host(), image_id)
    except NotFound as error:
        raise Http404(error.message) from error
