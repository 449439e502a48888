"""Reads of images."""

from __future__ import annotations

from datetime import datetime

from django.db.models import Prefetch, QuerySet

from runtime.errors import NotFound, SpecInvalid
from runtime.model.reference import Reference
from webui.containers.selectors import container_names
from webui.core.prepared import first, prepared
from webui.hosts.models import Host
from webui.images.models import Image, Registry
from webui.images.models import Reference as ReferenceRow


def images() -> QuerySet[Image]:
    """Newest first, with what a row's payload reads."""
    return Image.objects.prefetch_related(
        "references", Prefetch("containers", container_names())
    ).order_by("-added_at")


def image_find(host: Host, key: str, *, field: str = "image") -> Image:
    """By reference, digest or enough hex digits of it. Raises NotFound with `field`."""
    digits = key.removeprefix("sha256:")
    if len(digits) >= 6 and all(c in "0123456789abcdef" for c in digits):
        matches = list(Image.objects.filter(host=host, digest__startswith=f"sha256:{digits}")[:2])
        if len(matches) == 1:
            return matches[0]
    try:
        name = Reference.parse(key, field).full
    except SpecInvalid:
        raise _missing(key, field) from None
    row = first(_named(host.pk, name))
    if row is None:
        raise _missing(key, field)
    return row.image


@prepared
def _named(host_id: str, name: str) -> QuerySet[ReferenceRow]:
    found = ReferenceRow.objects.filter(host_id=host_id, name=name)
    return found.select_related("image").order_by()


def image_to_run(host: Host, text: str, *, field: str = "image") -> Image:
    """As image_find; a text that cannot name an image is told so. Raises NotFound, SpecInvalid."""
    try:
        return image_find(host, text, field=field)
    except NotFound:
        Reference.parse(text, field)
        raise


def image_built_at(*, host: Host, time: str) -> str:
    """The digest of the image made at just this moment (RFC 3339), "" when there is none."""
    found = Image.objects.filter(host=host, built_at=datetime.fromisoformat(time))
    return found.values_list("digest", flat=True).first() or ""


def _missing(key: str, field: str) -> NotFound:
    return NotFound(
        f"There is no image {key!r} on this host.",
        hint="Pull or import it first; the images page shows what is here.",
        field=field,
    )


def registry_find(hostname: str) -> Registry:
    """Raises NotFound."""
    registry = Registry.objects.filter(hostname=hostname).first()
    if registry is None:
        raise NotFound(f"Nothing is known about the registry {hostname!r}.", field="hostname")
    return registry
