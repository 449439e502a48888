"""Reads of containers, with what a row's payload needs."""

from __future__ import annotations

from django.db.models import Prefetch, Q, QuerySet

from runtime.errors import NotFound
from webui.advisor.models import Silence
from webui.containers.models import Container
from webui.core.prepared import first, prefetched, prepared
from webui.networks.models import Endpoint


def containers() -> QuerySet[Container]:
    """Newest first; a handful of queries whatever their number."""
    return _with_image().prefetch_related(Prefetch("endpoints", _ends()), "silences")


def _with_image() -> QuerySet[Container]:
    # What is left out is large, and in no row; whoever wants it gets it with one more query.
    found = Container.objects.select_related("image", "host")
    return found.defer("image__config", "image__layers", "host__facts")


def _ends() -> QuerySet[Endpoint]:
    # In one query: a network may be removed between two.
    return Endpoint.objects.select_related("network")


def container_whole(container_id: str) -> Container | None:
    """The one of `containers()` with this id; it is read at each start and stop."""
    container = first(_whole(container_id))
    if container is not None:
        prefetched(container, "endpoints", _ends_of(container_id))
        prefetched(container, "silences", _silences_of(container_id))
    return container


@prepared
def _whole(container_id: str) -> QuerySet[Container]:
    return _with_image().filter(pk=container_id).order_by()


@prepared
def _ends_of(container_id: str) -> QuerySet[Endpoint]:
    return _ends().filter(container__pk=container_id)


@prepared
def _silences_of(container_id: str) -> QuerySet[Silence]:
    return Silence.objects.filter(container__pk=container_id)


def container_names() -> QuerySet[Container]:
    """As little as rows of other things say about containers."""
    return Container.objects.only("id", "name", "image").order_by("name")


def container_find(key: str) -> Container:
    """By name, by id, or by enough of its first digits. Raises NotFound (also when several fit)."""
    return containers().filter(_called(key)).first() or _by_digits(containers(), key)


def container_alone(key: str) -> Container:
    """As `container_find`, without what only a row's payload reads: for who acts on the container."""
    return first(_called_alone(key)) or _by_digits(_alone(), key)


def _alone() -> QuerySet[Container]:
    return Container.objects.select_related("host").defer("host__facts", "host__unmanaged")


@prepared
def _called_alone(key: str) -> QuerySet[Container]:
    return _alone().filter(_called(key))[:1]


def _called(key: str) -> Q:
    return Q(pk=key) | Q(name=key)


def _by_digits(among: QuerySet[Container], key: str) -> Container:
    matches = list(among.filter(pk__startswith=key)[:2]) if len(key) >= 4 else []
    if len(matches) == 1:
        return matches[0]
    raise NotFound(
        f"There is no container {key!r}." if not matches else f"{key!r} fits several containers.",
        hint="Give its name, or more digits of its id.",
    )
