"""Networks that an actor's containers join and leave after they have been made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.asking import Failed

if TYPE_CHECKING:
    from tests.support.actor import Actor
    from tests.support.slot import Slot


class Joined:
    def __init__(self, actor: Actor) -> None:
        self._actor = actor

    def toggle(self, slot: Slot) -> None:
        """The actor's own network beside the container's first one: joined, or left again."""
        name = self._actor.network
        if not name or slot.network == name:
            return
        action = "disconnect" if slot.beside == name else "connect"
        path, body = f"/networks/{name}/{action}", {"container": slot.id}
        try:
            self._actor.asker.do("POST", path, f"container.{action}", slot.id, body)
        except Failed as failure:
            self._actor.asker.excuse(failure)
            self._actor.adopt(slot)
            return
        slot.beside = name if action == "connect" else ""

    def beside(self, slot: Slot, row: dict[str, Any]) -> str:
        """As its row has it."""
        name = self._actor.network
        there = any(network["name"] == name for network in row["networks"])
        return name if there and slot.network != name else ""
