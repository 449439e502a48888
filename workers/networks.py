"""Networks that the database knows and the host does not yet."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from runtime.errors import Conflict, NotFound
from runtime.model.spec import ContainerSpec
from webui.containers.moving import network_spec
from webui.networks.models import Network
from webui.networks.services import network_move_off

if TYPE_CHECKING:
    from runtime.engine import Engine

logger = logging.getLogger(__name__)

_MOVES = 3  # a host does not take subnets that quickly


def default_network_ready(engine: Engine, host_id: str) -> None:
    """Make the default network's bridge. No operation asks for it: its row is there from the first start.

    Its subnet was chosen without a look at the host. Where that uses it already the network moves, as long
    as no container has an address in it. Raises Conflict, NetlinkFailure, FirewallFailure.
    """
    network = Network.objects.filter(host_id=host_id, is_default=True).first()
    if network is None or _is_known(engine, network.pk):
        return
    network_made_where_free(engine, network)


def network_made_where_free(engine: Engine, network: Network) -> Network:
    """Make a network whose subnet nobody asked for: on another one when that is taken, also at the last moment.

    Raises Conflict, NetlinkFailure, FirewallFailure.
    """
    for left in reversed(range(_MOVES)):
        network = moved_off_the_host(engine, network)
        try:
            engine.networks.ensure(network_spec(network))
            break
        except Conflict as error:
            if not left:
                raise
            logger.info("Network %s: %s", network.name, error)
    return network


def moved_off_the_host(engine: Engine, network: Network) -> Network:
    """The network, on another subnet when this host uses its own already and no container has an address.

    For a subnet that nobody asked for: it was chosen without a look at the host. Raises Conflict.
    """
    before = network.subnet
    network = network_move_off(network=network, used=list(engine.networks.host_subnets()))
    if network.subnet != before:
        logger.info("The network %s moves from %s to %s.", network.name, before, network.subnet)
    return network


def networks_known(engine: Engine, spec: ContainerSpec) -> None:
    """Tell the host of the container's networks. Raises NotFound for one that the database lacks too."""
    for endpoint in spec.endpoints:
        network_known(engine, endpoint.network_id)


def network_known(engine: Engine, network_id: str) -> None:
    """Tell the host of the network, unless it knows. Raises NotFound when the database lacks it too."""
    if _is_known(engine, network_id):
        return
    network = Network.objects.filter(pk=network_id).first()
    if network is None:
        raise NotFound("The container's network does not exist any more.", field="network")
    engine.networks.ensure(network_spec(network))


def _is_known(engine: Engine, network_id: str) -> bool:
    try:
        engine.networks.get(network_id)
    except NotFound:
        return False
    return True
