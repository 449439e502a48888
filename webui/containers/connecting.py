"""Networks that a container joins and leaves after it has been made: what is asked for, and what came of it.

An address is reserved when it is asked for, and given back when the host has let go of it: the row of the endpoint
is there from the first to the last. The specification follows the host's.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import F

from runtime.errors import BadState, Conflict, NotFound, SpecInvalid
from runtime.model.codec import to_json
from runtime.model.spec import ContainerSpec, EndpointSpec
from runtime.model.state import Status
from runtime.model.validate_names import validate_hostname
from webui.accounts.models import User
from webui.containers.aliases import check_aliases, check_not_alias
from webui.containers.models import Container
from webui.containers.recording import container_ask, container_event
from webui.containers.requests import ConnectRequest
from webui.containers.reserving import choose_address
from webui.containers.showing import container_publish
from webui.hosts.services import host_lock
from webui.networks.models import Endpoint, Network
from webui.networks.services import network_publish
from webui.operations.models import Operation

CONNECT, DISCONNECT = "container.connect", "container.disconnect"


def container_connect(
    *,
    container: Container,
    network: Network,
    request: ConnectRequest,
    user: User | None,
    via: str,
) -> Operation:
    """Reserve an address on the network, and ask the host to join the container to it.

    Raises SpecInvalid, Conflict, AddressInUse, AlreadyExists with the field, BadState.
    """
    _check_changeable(container, "connect")
    if mode := container.spec.get("namespaces", {}).get("network", ""):
        words = {"host": "the host's network", "none": "no network"}
        raise SpecInvalid(
            "container",
            f"{container.name} has {words.get(mode, 'the network of another container')}:"
            " it cannot join others.",
            hint="Run a copy of it that joins a network by its name."
            if mode in words
            else "Connect the container whose network it shares.",
        )
    for index, alias in enumerate(request.aliases):
        validate_hostname(alias or " ", f"aliases[{index}]")
    with transaction.atomic():
        host_lock(host=container.host)
        _check_network(container, network)
        check_aliases(network, request.aliases, "aliases", container_id=container.pk)
        check_not_alias(container.name, [network.pk], "container", container_id=container.pk)
        endpoint = choose_address(
            network,
            address=request.ip,
            address6=request.ip6,
            mac_address=request.mac_address,
            aliases=request.aliases,
            link_local=request.link_local_ips,
        )
        _reserve(container, network.pk, endpoint)
        _show_network(network.pk)
        return _ask(container, network, user, via, endpoint=to_json(endpoint))


def container_disconnect(
    *, container: Container, network: Network, user: User | None, via: str
) -> Operation:
    """Ask the host to take the container off the network; its address is reserved until that is done.

    Raises NotFound when it is not on the network, Conflict, BadState.
    """
    _check_changeable(container, "disconnect")
    with transaction.atomic():
        host_lock(host=container.host)
        if not Endpoint.objects.filter(container=container, network=network).exists():
            names = list(container.endpoints.values_list("network__name", flat=True))
            raise NotFound(
                f"{container.name} is not on network {network.name}.",
                hint=f"It is on {', '.join(names)}." if names else "It is on no network.",
                field="container",
            )
        _check_nothing_under_way(container, network)
        return _ask(container, network, user, via)


def _ask(
    container: Container, network: Network, user: User | None, via: str, **params: Any
) -> Operation:
    """To connect when there is an endpoint among `params`."""
    return container_ask(
        container,
        CONNECT if "endpoint" in params else DISCONNECT,
        {"network": network.pk, "network_name": network.name, **params},
        user=user,
        via=via,
    )


def _check_changeable(container: Container, action: str) -> None:
    status = Status(container.status)
    if not status.allows("update") or not container.present:
        status_word = status if container.present else "not made yet"
        raise BadState(action, status_word, status.actions, container=container.name)


def _check_network(container: Container, network: Network) -> None:
    if network.host_id != container.host_id:
        raise NotFound(f"There is no network {network.name!r} on its host.", field="network")
    _check_nothing_under_way(container, network)
    there = Endpoint.objects.filter(container=container, network=network).first()
    if there is not None:
        raise Conflict(
            f"{container.name} is on network {network.name} already, as {there.address}.",
            hint="Disconnect it first, to give it another address or other names there.",
            field="container",
        )
    live = Operation.objects.filter(
        kind__in=("network.remove", "network.move"),
        target_id=network.pk,
        status__in=Operation.LIVE,
    ).first()
    if live is not None:
        doing = "removed" if live.kind == "network.remove" else "moved to another subnet"
        raise Conflict(
            f"{network.name} is being {doing}.", hint="Choose another network.", field="network"
        )


def _check_nothing_under_way(container: Container, network: Network) -> None:
    """One after the other: which of two came last would depend on the worker."""
    live = Operation.objects.filter(
        kind__in=(CONNECT, DISCONNECT),
        target_id=container.pk,
        params__network=network.pk,
        status__in=Operation.LIVE,
    ).first()
    if live is not None:
        doing = "connected to" if live.kind == CONNECT else "disconnected from"
        raise Conflict(
            f"{container.name} is just being {doing} {network.name}.",
            hint="Wait until that has ended.",
            field="container",
            operation=str(live.pk),
        )


# -- what came of it, written by workers ---------------------------------------------------------


def container_networks_follow(
    *, container_id: str, spec: ContainerSpec, network_id: str, operation: Operation
) -> None:
    """The host has the container on the network or off it, as `spec` says: rows and specification follow.

    What changes is an event, by who asked for it; nothing happens the second time.
    """
    with transaction.atomic():
        container = Container.objects.select_related("host").filter(pk=container_id).first()
        if container is None:
            return
        host_lock(host=container.host)
        container.refresh_from_db(fields=["spec"])
        endpoint = next((e for e in spec.endpoints if e.network_id == network_id), None)
        _reserve(container, network_id, endpoint)
        before = {each["network_id"] for each in container.spec.get("endpoints") or ()}
        if (endpoint is not None) != (network_id in before):
            container.spec["endpoints"] = [to_json(each) for each in spec.endpoints]
            Container.objects.filter(pk=container_id).update(
                spec=container.spec, revision=F("revision") + 1
            )
            _record(container, network_id, endpoint, operation)
        _show_network(network_id)


def _reserve(container: Container, network_id: str, endpoint: EndpointSpec | None) -> None:
    if endpoint is None:
        Endpoint.objects.filter(container=container, network_id=network_id).delete()
    else:
        Endpoint.objects.get_or_create(
            container=container,
            network_id=network_id,
            defaults={
                "address": endpoint.address,
                "address6": endpoint.address6,
                "mac_address": endpoint.mac_address,
                "aliases": list(endpoint.aliases),
            },
        )


def _record(
    container: Container, network_id: str, endpoint: EndpointSpec | None, operation: Operation
) -> None:
    name = str(operation.params.get("network_name", ""))
    data = {"network": network_id, "network_name": name, "message": f"Its name is {name}."}
    if endpoint is not None:
        addresses = " and ".join(filter(None, (endpoint.address, endpoint.address6)))
        data |= {"address": endpoint.address, "address6": endpoint.address6}
        data["message"] = f"It is {addresses} on {name}."
    kind = "container.connected" if endpoint is not None else "container.disconnected"
    container_event(container, kind, data, user=operation.user)


def container_connect_withdrawn(*, operation: Operation) -> None:
    """A connection that is not going to be made reserves nothing."""
    network_id = str(operation.params.get("network", ""))
    with transaction.atomic():
        container = Container.objects.filter(pk=operation.target_id).first()
        joined = (container.spec.get("endpoints") if container else None) or ()
        if any(each["network_id"] == network_id for each in joined):
            return
        Endpoint.objects.filter(container_id=operation.target_id, network_id=network_id).delete()
        _show_network(network_id)
    container_publish(container_id=operation.target_id)


def _show_network(network_id: str) -> None:
    transaction.on_commit(lambda: network_publish(network_id=network_id))
