"""Writes to networks."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import transaction

from runtime.errors import AlreadyExists, Conflict, NetworkInUse, SpecInvalid
from runtime.model.spec import NetworkSpec
from runtime.model.subnets import gateway_for, next_subnet, overlapping, shortest, subnet6_for
from runtime.model.validate_names import validate_name
from runtime.model.validate_network import validate_network
from webui.accounts.models import User
from webui.core.fields import new_id
from webui.core.payloads import network_row
from webui.core.publish import publish_gone, publish_row
from webui.hosts.models import Host
from webui.hosts.services import host_lock
from webui.networks.models import Network
from webui.networks.selectors import networks, subnets_taken
from webui.operations.models import Operation
from webui.operations.services import operation_create

DEFAULT = "default"
RESERVED = ("host", "none", "bridge")


def network_default(*, host: Host) -> Network:
    """The network that containers join unless told otherwise; made once per host."""
    network = Network.objects.filter(host=host, is_default=True).first()
    if network is None:
        subnet = next_subnet(Network.objects.filter(host=host).values_list("subnet", flat=True))
        network = Network.objects.create(
            host=host, name=DEFAULT, subnet=subnet, gateway=gateway_for(subnet), is_default=True
        )
    return network


def network_create(
    *,
    host: Host,
    name: str,
    subnet: str = "",
    gateway: str = "",
    ipv6: bool = False,
    subnet6: str = "",
    gateway6: str = "",
    internal: bool = False,
    labels: dict[str, str] | None = None,
    user: User | None,
    via: str,
) -> tuple[Network, Operation]:
    """Reserve name and subnets (the next free one by default) and ask the host for the bridge.

    `ipv6` gives it a subnet of its own making beside the IPv4 one, `subnet6` one of yours. An IPv6
    subnet given as `subnet` is meant as that, as with `docker network create --ipv6 --subnet`.
    Raises SpecInvalid, AlreadyExists, Conflict with their fields.
    """
    validate_name(name)
    if ":" in subnet and not subnet6:
        subnet, subnet6 = "", subnet
        gateway, gateway6 = ("", gateway) if ":" in gateway else (gateway, gateway6)
    if name in RESERVED:
        raise Conflict(f"{name!r} is a word of its own.", hint="Choose another name.", field="name")
    with transaction.atomic():
        host_lock(host=host)
        if Network.objects.filter(host=host, name=name).exists():
            raise AlreadyExists(
                f"There is a network named {name!r} already.",
                hint="Choose another name.",
                field="name",
            )
        taken = subnets_taken(host=host)
        chosen_here = not subnet
        subnet = subnet or next_subnet(taken)
        network_id = new_id()
        if ipv6 or subnet6 or gateway6:
            subnet6 = shortest(subnet6) if subnet6 else subnet6_for(network_id, taken)
            gateway6 = shortest(gateway6)
            if not gateway6 and ":" in subnet6:  # else it is no subnet, which is said below
                gateway6 = first_address(subnet6)
        spec = NetworkSpec(
            id=network_id,
            name=name,
            subnet=subnet,
            gateway=gateway or first_address(subnet),
            subnet6=subnet6,
            gateway6=gateway6,
            internal=internal,
            labels=labels or {},
        )
        validate_network(spec)
        for field, each in (("subnet", subnet), ("subnet6", subnet6)):
            if each and (clash := overlapping(each, taken)):
                raise Conflict(
                    f"{each} overlaps {clash[0]}, which another network has.",
                    hint="Leave the subnet empty to get a free one.",
                    field=field,
                )
        network = Network.objects.create(
            id=spec.id,
            host=host,
            name=name,
            subnet=spec.subnet,
            gateway=spec.gateway,
            subnet6=spec.subnet6,
            gateway6=spec.gateway6,
            internal=internal,
            labels=spec.labels,
        )
        operation = operation_create(
            host=host,
            kind="network.create",
            target_type="network",
            target_id=network.pk,
            target_name=name,
            user=user,
            via=via,
            # The host may use what was chosen here for something else; its worker then chooses again.
            params={"subnet_may_move": chosen_here},
        )
        transaction.on_commit(lambda: publish_row("networks", network_row(network)))
    return network, operation


def first_address(subnet: str) -> str:
    """The gateway of a subnet that names none. Raises SpecInvalid with the field."""
    try:
        return gateway_for(subnet)
    except Conflict:
        field, hint = ("subnet6", "Use /64.") if ":" in subnet else ("subnet", "Use /8 to /29.")
        raise SpecInvalid(field, f"{subnet} has no room for containers.", hint=hint) from None


def network_remove(*, network: Network, user: User | None, via: str) -> Operation:
    """Raises NetworkInUse while a container is on it, Conflict for the default one."""
    if network.is_default:
        raise Conflict("The default network stays.", hint="Containers fall back to it.")
    with transaction.atomic():
        host_lock(host=network.host)
        moving = Operation.objects.filter(
            kind="network.move", target_id=network.pk, status__in=Operation.LIVE
        )
        if moving.exists():
            raise Conflict(f"{network.name} is being moved.", hint="Wait until that has ended.")
        members = list(network.endpoints.values_list("container__name", flat=True))
        if members:
            raise NetworkInUse(
                f"Network {network.name} is in use by {', '.join(members[:5])}.",
                hint="Disconnect these containers from it first, or remove them.",
                members=members,
            )
        return operation_create(
            host=network.host,
            kind="network.remove",
            target_type="network",
            target_id=network.pk,
            target_name=network.name,
            user=user,
            via=via,
        )


def network_delete_row(*, network_id: str) -> None:
    """The host has taken it away."""
    if Network.objects.filter(pk=network_id, is_default=False).delete()[0]:
        publish_gone("networks", network_id)


def network_publish(*, network_id: str) -> None:
    network = networks().filter(pk=network_id).first()
    if network is not None:
        publish_row("networks", network_row(network))


def network_move_off(*, network: Network, used: Sequence[str]) -> Network:
    """The network, with another subnet when its own is among those that the host uses, or another network has it.

    For a subnet that nobody asked for: it was chosen without a look at the host. Nothing happens as soon as a container
    has an address. Raises Conflict when no subnet is left.
    """
    with transaction.atomic():
        host_lock(host=network.host)
        now = Network.objects.select_related("host").filter(pk=network.pk).first()
        if now is None or now.endpoints.exists():
            return now or network
        taken = [*used, *subnets_taken(host=now.host, but=now.pk)]
        if not overlapping(now.subnet, taken):
            return now
        now.subnet = next_subnet(taken)
        now.gateway = gateway_for(now.subnet)
        now.save(update_fields=["subnet", "gateway"])
        transaction.on_commit(lambda: publish_row("networks", network_row(now)))
    return now
