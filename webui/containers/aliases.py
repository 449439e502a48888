"""Names on a network: several containers may share an alias, and then its work; a container's own name is its alone.

Docker lets an alias be the name of another container and answers with both addresses in turn: half of the connections
to a database go astray. Here neither of two that would do that to each other is let onto the network, whichever comes
later. A network knows names in any case.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from runtime.errors import AlreadyExists
from webui.containers import holding
from webui.containers.models import Container
from webui.networks.models import Network


def check_aliases(
    network: Network, aliases: Sequence[str], field: str, *, container_id: str
) -> None:
    """Raise AlreadyExists, with "<field>[2]", when an alias of the container is another one's name on the network."""
    if not aliases:
        return
    wanted = {alias.lower(): index for index, alias in enumerate(aliases)}
    names = Container.objects.filter(endpoints__network=network).exclude(pk=container_id)
    for name in names.values_list("name", flat=True):
        index = wanted.get(name.lower())
        if index is not None:
            raise AlreadyExists(
                f"{name} is the name of another container on {network.name}.",
                hint="Choose another alias, or rename that container.",
                field=f"{field}[{index}]",
            )


def check_not_alias(
    name: str, network_ids: Iterable[str], field: str, *, container_id: str
) -> None:
    """Raise AlreadyExists, with the field, when the container's name is another one's alias on one of the networks."""
    for aliases, other_id, other, network in holding.aliases(list(network_ids)):
        if other_id != container_id and name.lower() in (alias.lower() for alias in aliases):
            raise AlreadyExists(
                f"{name} is an alias of container {other} on {network}.",
                hint=f"Choose another name, or take {other} off {network}.",
                field=field,
            )
