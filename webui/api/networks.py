"""/api/v1/networks"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Router
from pydantic import Field

from webui.api.answers import DONE, MADE, Answer, WaitQuery, answer, operation_now
from webui.api.auth import operator, reader
from webui.containers import connecting, moving
from webui.containers.moving import MoveRequest
from webui.containers.requests import ConnectRequest, DisconnectRequest, Request
from webui.containers.selectors import container_alone, container_find
from webui.core.payloads import container_row, network_row
from webui.core.rows import ContainerRow, NetworkRow, OperationRow
from webui.hosts.selectors import current_host
from webui.networks import services
from webui.networks.selectors import network_find, networks
from webui.operations.models import Operation

router = Router()


class NetworkRequest(Request):
    name: str = Field(min_length=1)
    subnet: str = ""
    gateway: str = ""
    ipv6: bool = False
    subnet6: str = ""
    gateway6: str = ""
    internal: bool = False
    labels: dict[str, str] = Field(default_factory=dict)


@router.get("", response=list[Any])
def network_list(request: HttpRequest) -> list[NetworkRow]:
    reader(request)
    return [network_row(n) for n in networks()]


@router.post("", response=MADE)
def network_create(
    request: HttpRequest, body: NetworkRequest, wait: WaitQuery
) -> Answer[NetworkRow]:
    """A bridge of its own; its subnet is the next free one unless given, its IPv6 subnet one of fd00::/8."""
    user, via = operator(request)
    network, operation = services.network_create(
        host=current_host(), **body.model_dump(), user=user, via=via
    )
    return answer(wait, operation, lambda: network_row(network_find(network.pk)), 201)


@router.get("/{key}", response=Any)
def network_get(request: HttpRequest, key: str) -> NetworkRow:
    reader(request)
    return network_row(network_find(key))


@router.delete("/{key}", response=DONE)
def network_remove(request: HttpRequest, key: str, wait: WaitQuery) -> Answer[OperationRow]:
    user, via = operator(request)
    operation = services.network_remove(network=network_find(key), user=user, via=via)
    return answer(wait, operation, lambda: operation_now(operation))


@router.post("/{key}/move", response=DONE)
def network_move(
    request: HttpRequest, key: str, body: MoveRequest, wait: WaitQuery
) -> Answer[NetworkRow]:
    """Give the network another subnet while none of its containers runs: the way out when something else has its own.

    Every address on it changes, also one that was asked for; the operation's result lists them (`containers`, each
    with `before` and `address`).
    """
    user, via = operator(request)
    operation = moving.network_move_ask(network=network_find(key), request=body, user=user, via=via)
    return answer(wait, operation, lambda: network_row(network_find(operation.target_id)))


@router.post("/{key}/connect", response=DONE)
def network_connect(
    request: HttpRequest, key: str, body: ConnectRequest, wait: WaitQuery
) -> Answer[ContainerRow]:
    """Join a container to the network, at once when it runs. Answers the container, which keeps it over restarts.

    An alias is a further name for others on this network. What is not given (`ip`, `ip6`, `mac_address`) is chosen.
    """
    user, via = operator(request)
    operation = connecting.container_connect(
        container=container_alone(body.container),
        network=network_find(key),
        request=body,
        user=user,
        via=via,
    )
    return _container(operation, wait)


@router.post("/{key}/disconnect", response=DONE)
def network_disconnect(
    request: HttpRequest, key: str, body: DisconnectRequest, wait: WaitQuery
) -> Answer[ContainerRow]:
    """Take a container off the network, at once when it runs. Answers the container.

    Its published ports lead through the networks that remain; without any they wait for the next one.
    """
    user, via = operator(request)
    operation = connecting.container_disconnect(
        container=container_alone(body.container), network=network_find(key), user=user, via=via
    )
    return _container(operation, wait)


def _container(operation: Operation, wait: WaitQuery) -> Answer[ContainerRow]:
    return answer(
        wait,
        operation,
        lambda: container_row(container_find(operation.target_id)),
        target_row=True,
    )
