"""Reads of what the containers of a host hold, for every one that is made: names, addresses, ports."""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import QuerySet

from webui.containers.models import Container
from webui.core.prepared import prepared
from webui.networks.models import Endpoint, Network, PortReservation
from webui.operations.models import Operation

HOLDER = ("protocol", "host_ip", "host_port", "container__name")
REMOVALS = {
    "image.remove": "image",
    "network.remove": "network",
    "network.move": "network",
    "volume.remove": "mounts",
}


@prepared
def named(host_id: str, name: str) -> QuerySet[Container, str]:
    """The id of the container with the name."""
    return (
        Container.objects.filter(host_id=host_id, name=name).order_by().values_list("pk", flat=True)
    )


@prepared
def default_network(host_id: str) -> QuerySet[Network]:
    return Network.objects.filter(host_id=host_id, is_default=True).order_by("pk")[:1]


@prepared
def network_named(host_id: str, name: str) -> QuerySet[Network]:
    return Network.objects.filter(host_id=host_id, name=name).order_by()


@prepared
def addresses(network_id: str) -> QuerySet[Endpoint, tuple[str, str]]:
    """(address, address6) of each endpoint."""
    return Endpoint.objects.filter(network_id=network_id).values_list("address", "address6")


@prepared
def aliases(network_ids: Iterable[str]) -> QuerySet[Endpoint, tuple[list[str], str, str, str]]:
    """(aliases, the container's id and name, the network's name) of each endpoint that has any."""
    found = Endpoint.objects.filter(network__pk__in=network_ids).exclude(aliases=[])
    return found.values_list("aliases", "container_id", "container__name", "network__name")


@prepared
def ports(host_id: str, host_ports: Iterable[int]) -> QuerySet[PortReservation]:
    """Who holds one of the ports, with the container's name."""
    held = PortReservation.objects.filter(host_id=host_id, host_port__in=host_ports)
    return held.select_related("container").only(*HOLDER)


@prepared
def removals(host_id: str, targets: Iterable[str]) -> QuerySet[Operation, tuple[str, str]]:
    """(kind, name) of what somebody has asked to remove or move, while that has not ended."""
    asked = Operation.objects.filter(
        host_id=host_id, kind__in=REMOVALS, target_id__in=targets, status__in=Operation.LIVE
    )
    return asked.order_by().values_list("kind", "target_name")
