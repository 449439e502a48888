"""Images that an actor makes of its containers, and what must be in them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.support.asking import Failed, Trouble
from tests.support.inside import digest, unpacked

if TYPE_CHECKING:
    from tests.support.actor import Actor
    from tests.support.slot import Files, Slot

_MOST = 2  # at a time


class Made:
    def __init__(self, actor: Actor, dice: random.Random) -> None:
        self._actor = actor
        self._asker = actor.asker
        self._dice = dice
        self._made = 0
        self.images: dict[str, Files] = {}  # id -> what its files hold

    def commit(self, slot: Slot) -> None:
        """An image of the container, which goes on as it was."""
        if len(self.images) >= _MOST:
            self.remove_one()
            return
        self._made += 1
        name = f"{self._actor.name}/made:{self._made}"
        path = f"/containers/{slot.id}/commit"
        # What is in a volume is in no image.
        files = slot.base | {p: d for p, d in slot.files.items() if not p.startswith("/data/")}
        try:
            operation = self._asker.do(
                "POST", path, "container.commit", slot.id, {"reference": name}
            )
        except Failed as failure:
            self._asker.excuse(failure)
            if self._asker.find(name, "images"):
                raise Trouble(f"{name} is there, although {failure}") from None
            return
        self.images[operation["result"]["id"]] = files

    def look(self, slot: Slot) -> None:
        """What its image holds is in the container, until something else is put there."""
        for path, digests in slot.base.items():
            if path in slot.files or len(digests) > 1 or "" in digests:
                continue
            url = f"/containers/{slot.id}/archive"
            answer = self._asker.answer("GET", url, params={"path": path}, streams=True)
            if answer is not None and digest(unpacked(answer.content)) not in digests:
                raise Trouble(f"{slot.name}: {path} is not as it was when its image was made")

    def remove_one(self) -> None:
        used = {slot.image for slot in self._actor.slots if slot.id}
        for image in self.images.keys() - used:
            try:
                self._asker.do("DELETE", f"/images/{image}", "image.remove", image)
            except Failed as failure:
                self._asker.excuse(failure)
                if self._asker.find(image, "images"):
                    return
            del self.images[image]
            return

    def remove_all(self) -> None:
        """When no container is left. Raises Failed."""
        for image in sorted(self.images):
            self._asker.do("DELETE", f"/images/{image}", "image.remove", image)
        self.images.clear()
