"""Subnets that cannot be had: another network's, or what the host reaches directly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from runtime.errors import Conflict
from runtime.model.spec import NetworkSpec
from runtime.model.subnets import overlapping

_COMMANDS = {"subnet": "ip route", "subnet6": "ip -6 route"}


def refuse_clash(spec: NetworkSpec, known: Iterable[NetworkSpec], used: Sequence[str]) -> None:
    """Raise Conflict, with the field, when a subnet of `spec` overlaps one of the networks in `known`
    or one of the host's own in `used`, of whichever family.
    """
    others = [other for other in known if other.id != spec.id]
    for field, command in _COMMANDS.items():
        subnet: str = getattr(spec, field)
        if not subnet:
            continue
        for other in others:
            theirs: str = getattr(other, field)
            if theirs and overlapping(subnet, [theirs]):
                raise Conflict(
                    f"Subnet {subnet} overlaps {theirs} of network {other.name}.",
                    hint="Choose another subnet.",
                    field=field,
                )
        if clashes := overlapping(subnet, used):
            raise Conflict(
                f"Subnet {subnet} is in use on this host: {', '.join(clashes)}.",
                hint=f"Choose another subnet; `{command}` lists what the host reaches directly.",
                field=field,
                routes=clashes,
            )
