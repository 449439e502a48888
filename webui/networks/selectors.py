"""Reads of networks."""

from __future__ import annotations

from django.db.models import Prefetch, QuerySet

from runtime.errors import NotFound
from webui.hosts.models import Host
from webui.networks.models import Endpoint, Network
from webui.operations.models import Operation


def _endpoints() -> QuerySet[Endpoint]:
    """With their containers' names: in one query, as a container may be removed between two."""
    fields = ("network", "address", "address6", "container__name")
    return Endpoint.objects.select_related("container").only(*fields)


def networks() -> QuerySet[Network]:
    """By name, with what a row's payload reads."""
    return (
        Network.objects.select_related("host")
        .prefetch_related(Prefetch("endpoints", _endpoints()))
        .order_by("name")
    )


def network_find(key: str) -> Network:
    """By name, id or the id's first digits. Raises NotFound."""
    found = networks().filter(name=key).first() or networks().filter(pk=key).first()
    if found is None and len(key) >= 4:
        matches = list(networks().filter(pk__startswith=key)[:2])
        found = matches[0] if len(matches) == 1 else None
    if found is None:
        raise NotFound(f"There is no network {key!r}.")
    return found


def subnets_taken(*, host: Host, but: str = "") -> list[str]:
    """Every subnet that a network of the host has or is being moved to, without those of the network with the id `but`.

    They hold as long as the caller holds the host's lock.
    """
    rows = Network.objects.filter(host=host).exclude(pk=but).values_list("subnet", "subnet6")
    moves = Operation.objects.filter(host=host, kind="network.move", status__in=Operation.LIVE)
    wanted = [
        (params.get("subnet"), params.get("subnet6"))
        for params in moves.exclude(target_id=but).values_list("params", flat=True)
    ]
    return [each for row in (*rows, *wanted) for each in row if each]
