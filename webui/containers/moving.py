"""A network's move to another subnet: what is asked for, and what becomes of its containers' addresses.

Nothing is written before the host has done it: rows and specifications follow. Until then nobody joins the network.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from django.db import transaction
from django.db.models import F
from pydantic import Field

from runtime.errors import Conflict, NetworkInUse, SpecInvalid
from runtime.model.codec import from_json, to_json
from runtime.model.spec import EndpointSpec, NetworkSpec
from runtime.model.state import Status
from runtime.model.subnets import mac_for, moved_addresses, next_subnet, overlapping, shortest
from runtime.model.validate_network import validate_network
from webui.accounts.models import User
from webui.containers.models import Container
from webui.containers.recording import container_event
from webui.containers.requests import Request
from webui.containers.showing import container_publish
from webui.hosts.services import host_lock
from webui.networks.models import Endpoint, Network
from webui.networks.selectors import subnets_taken
from webui.networks.services import first_address, network_publish
from webui.operations.models import Operation
from webui.operations.services import operation_create

MOVE = "network.move"


class MoveRequest(Request):
    """Without a subnet the next free one; with `subnet6` alone the IPv4 subnet stays."""

    subnet: str = Field(default="", max_length=43)
    gateway: str = Field(default="", max_length=39)
    subnet6: str = Field(default="", max_length=43)
    gateway6: str = Field(default="", max_length=39)


def network_move_ask(
    *, network: Network, request: MoveRequest, user: User | None, via: str
) -> Operation:
    """Ask the host to give the network another subnet and its containers addresses there.

    Raises NetworkInUse while one of them runs, SpecInvalid and Conflict with the field.
    """
    with transaction.atomic():
        host_lock(host=network.host)
        _check_resting(network)
        spec = _wanted(network, request)
        endpoints_in(network, spec)  # that there is room for all
        return operation_create(
            host=network.host,
            kind=MOVE,
            target_type="network",
            target_id=network.pk,
            target_name=network.name,
            user=user,
            via=via,
            params={
                name: getattr(spec, name) for name in ("subnet", "gateway", "subnet6", "gateway6")
            },
        )


def _check_resting(network: Network) -> None:
    live = Operation.objects.filter(host=network.host, status__in=Operation.LIVE)
    if live.filter(target_type="network", target_id=network.pk).exists():
        raise Conflict(f"{network.name} is being changed.", hint="Wait until that has ended.")
    members = list(Container.objects.filter(endpoints__network=network).order_by("name"))
    running = [each.name for each in members if Status(each.status).is_active]
    if running:
        raise NetworkInUse(
            f"{', '.join(running[:5])} {'run' if len(running) > 1 else 'runs'} on {network.name}.",
            hint="Stop what runs on it first: addresses change with the subnet.",
            members=running,
        )
    names = {each.pk: each.name for each in members}
    busy = live.filter(target_type="container", target_id__in=names).first()
    if busy is not None:
        raise Conflict(
            f"Something is being done with {names[busy.target_id]}, which is on {network.name}.",
            hint="Wait until that has ended.",
            operation=str(busy.pk),
        )


def _wanted(network: Network, request: MoveRequest) -> NetworkSpec:
    """The network with its new subnets, which no other one has."""
    if (request.subnet6 or request.gateway6) and not network.ipv6:
        raise SpecInvalid("subnet6", f"Network {network.name} has no IPv6.", hint="Leave it empty.")
    taken = subnets_taken(host=network.host, but=network.pk)
    subnet = request.subnet
    if not subnet and (request.gateway or not request.subnet6):
        host = (network.host.facts.get("network") or {}).get("host_subnets") or ()
        subnet = next_subnet([*taken, *host, network.subnet])
    spec = network_spec(network)
    if subnet:
        gateway = request.gateway or first_address(subnet)
        spec = dataclasses.replace(spec, subnet=subnet, gateway=gateway)
    if request.subnet6:
        subnet6 = shortest(request.subnet6)
        gateway6 = shortest(request.gateway6) or first_address(subnet6)
        spec = dataclasses.replace(spec, subnet6=subnet6, gateway6=gateway6)
    validate_network(spec)
    for field in ("subnet", "subnet6"):
        each = getattr(spec, field)
        if each and (clash := overlapping(each, taken)):
            raise Conflict(
                f"{each} overlaps {clash[0]}, which another network has.",
                hint="Choose another subnet."
                if field == "subnet6"
                else "Leave the subnet empty to get a free one.",
                field=field,
            )
    if spec == network_spec(network):
        raise Conflict(
            f"{network.name} is on {spec.subnet} already.",
            hint="Leave the subnet empty to get a free one.",
            field="subnet",
        )
    return spec


def network_spec(network: Network, **changes: Any) -> NetworkSpec:
    """The network as its host knows it, with `changes`."""
    spec = NetworkSpec(
        id=network.pk,
        name=network.name,
        subnet=network.subnet,
        gateway=network.gateway,
        subnet6=network.subnet6,
        gateway6=network.gateway6,
        internal=network.internal,
        labels=network.labels,
    )
    return dataclasses.replace(spec, **changes)


def endpoints_of(network: Network) -> dict[str, EndpointSpec]:
    """What its containers, by id, have there."""
    members = Container.objects.filter(endpoints__network=network).order_by("endpoints__pk")
    return {
        container_id: from_json(EndpointSpec, each)
        for container_id, endpoints in members.values_list("pk", "spec__endpoints")
        for each in endpoints or ()
        if each["network_id"] == network.pk
    }


def endpoints_in(network: Network, spec: NetworkSpec) -> dict[str, EndpointSpec]:
    """What they are to have in the subnets of `spec`: the same place where there is one, else the lowest free one.

    Raises Conflict when there is no room.
    """
    before = endpoints_of(network)
    four = moved_addresses(
        [e.address for e in before.values()], network.subnet, spec.subnet, spec.gateway
    )
    six = moved_addresses(
        [e.address6 for e in before.values() if e.address6],
        network.subnet6,
        spec.subnet6,
        spec.gateway6,
    )
    result = {}
    for container_id, end in before.items():
        address = four[end.address]
        made = end.mac_address == mac_for(end.address)
        result[container_id] = dataclasses.replace(
            end,
            address=address,
            prefix_length=int(spec.subnet.partition("/")[2]),
            gateway=spec.gateway,
            mac_address=mac_for(address) if made else end.mac_address,
            address6=six.get(end.address6, ""),
            prefix_length6=int(spec.subnet6.partition("/")[2])
            if end.address6
            else end.prefix_length6,
            gateway6=spec.gateway6 if end.address6 else "",
        )
    return result


# -- what came of it, written by workers ---------------------------------------------------------


def network_moved(
    *, network: Network, spec: NetworkSpec, endpoints: dict[str, EndpointSpec], operation: Operation
) -> list[dict[str, str]]:
    """The host has done it. Answers [{"id", "name", "before", "address"}] of each container whose address changed."""
    changed = []
    with transaction.atomic():
        host_lock(host=network.host)
        Network.objects.filter(pk=network.pk).update(
            subnet=spec.subnet,
            gateway=spec.gateway,
            subnet6=spec.subnet6,
            gateway6=spec.gateway6,
        )
        rows = list(network.endpoints.select_related("container__host").order_by("pk"))
        rows = [row for row in rows if row.container_id in endpoints]
        for row in rows:  # two may change places
            Endpoint.objects.filter(pk=row.pk).update(address=f"#{row.pk}", address6="")
        for row in rows:
            end = endpoints[row.container_id]
            before = row.address
            _follow(row, end)
            if before == end.address:
                continue
            one = row.container
            changed.append(
                {"id": one.pk, "name": one.name, "before": before, "address": end.address}
            )
            message = f"It is {end.address} on {network.name}, where it was {before}."
            data = {"network": network.pk, "network_name": network.name, "message": message}
            container_event(one, "container.moved", data, user=operation.user)
    network_publish(network_id=network.pk)
    for row in rows:
        container_publish(container_id=row.container_id)
    return changed


def _follow(row: Endpoint, end: EndpointSpec) -> None:
    Endpoint.objects.filter(pk=row.pk).update(
        address=end.address, address6=end.address6, mac_address=end.mac_address
    )
    container = row.container
    container.spec["endpoints"] = [
        to_json(end) if each["network_id"] == end.network_id else each
        for each in container.spec["endpoints"]
    ]
    Container.objects.filter(pk=container.pk).update(
        spec=container.spec, revision=F("revision") + 1
    )
