"""One who works on containers, volumes and networks of its own over REST, and knows what must come of it."""

from __future__ import annotations

import random
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx

from runtime.cgroups.manager import CgroupManager
from runtime.kernel.procfs import start_time
from runtime.network.sysctls import has_ipv6
from runtime.store.paths import Config
from tests.support.asking import LAG, PATIENCE, Asker, Blows, Failed, Trouble
from tests.support.inside import Inside
from tests.support.joined import Joined
from tests.support.made import Made
from tests.support.platform import Api, free_port
from tests.support.slot import ENDLESS, FLEETING, POLICIES, RETRIES, SCRIPTS, Slot

IMAGE = "slipway/starter:latest"
MIB = 1024 * 1024
STEADY = ("created", "running", "paused", "exited", "dead")
# What is done with a container, by its status, and how often.
CHOICES: dict[str, dict[str, int]] = {
    "": {"create": 1},
    "created": {"start": 4, "remove": 1, "rename": 1, "update": 1, "copy": 1, "look": 1, "join": 1},
    "exited": {
        "start": 4, "restart": 1, "remove": 2, "rename": 1, "update": 1, "copy": 1, "commit": 1,
        "look": 1, "join": 1,
    },
    "running": {
        "stop": 3, "kill": 3, "restart": 3, "pause": 2, "rename": 1, "update": 2, "remove": 1,
        "visit": 2, "exec": 3, "attach": 2, "copy": 2, "sicken": 2, "crash": 2, "commit": 2,
        "look": 2, "join": 2, "resolve": 6,
    },
    "paused": {
        "unpause": 4, "kill": 1, "stop": 1, "remove": 1, "copy": 1, "commit": 1, "join": 1,
    },
    "dead": {"remove": 1},
}  # fmt: skip


class Actor:
    def __init__(
        self,
        api: Api,
        config: Config,
        *,
        name: str,
        dice: random.Random,
        operations: int,
        slots: int,
        say: Callable[[str], None],
        blows: Blows,
    ) -> None:
        self.config, self.name, self.blows, self._dice = config, name, blows, dice
        self.asker = Asker(api, name=name, blows=blows, say=say)
        self._operations = operations
        self._say = say
        self.slots = [Slot(f"{name}-{i}", free_port()) for i in range(slots)]
        self._renamed = 0
        self._volumes = [f"{name}-v{i}" for i in range(2)]
        self.volumes: set[str] = set()
        self.network = ""  # name of its own one, while it is there
        self._groups = CgroupManager(config)
        self.inside, self.made, self.joined = Inside(self, dice), Made(self, dice), Joined(self)
        self._acts: dict[str, Callable[[Slot], None]] = {
            "create": self._create, "start": self._start, "restart": self._restart,
            "stop": self._stop, "kill": self._kill, "pause": self._pause,
            "unpause": self._unpause, "rename": self._rename, "update": self._update,
            "remove": self._remove, "visit": self._visit, "exec": self.inside.exec,
            "attach": self.inside.attach, "copy": self.inside.copy,
            "sicken": self.inside.sicken, "crash": self.inside.crash,
            "commit": self.made.commit, "look": self.made.look, "join": self.joined.toggle,
            "resolve": self.inside.resolve,
        }  # fmt: skip
        self.troubles: list[str] = []

    def run(self) -> None:
        for _ in range(self._operations):
            slot = self._dice.choice(self.slots)
            try:
                self._act(slot)
            except Exception as error:  # noqa: BLE001 - the others go on
                what = "" if isinstance(error, Trouble) else f"{type(error).__name__}: "
                self._note(f"{slot.name}: {what}{error}")
                with suppress(Trouble):
                    self.adopt(slot)

    def _note(self, text: str) -> None:
        self._say(f"{self.name}: TROUBLE {text}")
        self.troubles.append(text)

    # -- choosing -----------------------------------------------------------------------------

    def _act(self, slot: Slot) -> None:
        if self._dice.random() < 0.12:
            self._dice.choice((self._toggle_volume, self._toggle_network))()
            return
        weights = {
            action: weight
            for action, weight in CHOICES[slot.status].items()
            if slot.can(action, slot.status)
        }
        action = self._dice.choices(list(weights), list(weights.values()))[0]
        self._say(f"{slot.name} ({slot.kind}, {slot.status or 'none'}, {slot.id[:8]}): {action}")
        self._acts[action](slot)
        self._say(f"{slot.name}: {action} done: {slot.status}")
        self.until(slot.check(self), LAG)

    def until(self, look: Callable[[], list[str]], seconds: float) -> None:
        """The truth, as soon as the platform had time to show it."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                wrong = look()
            except httpx.HTTPError as error:
                self.asker.broken_off(error)
                # The time that web is away does not count.
                deadline = time.monotonic() + seconds
                continue
            if not wrong:
                return
            if time.monotonic() > deadline:
                raise Trouble("; ".join(wrong))
            time.sleep(0.1)

    # -- actions on a container -----------------------------------------------------------------

    def _create(self, slot: Slot) -> None:
        dice = self._dice
        slot.kind = dice.choice(list(SCRIPTS))
        slot.code = dice.randrange(1, 100)
        slot.publishes = slot.kind == "steady" and dice.random() < 0.6
        slot.policy = dice.choice(POLICIES) if slot.kind in ("steady", "echo") else ""
        slot.checked = slot.kind == "steady" and dice.random() < 0.5
        slot.userns = dice.choice(("", "", "host"))
        slot.volume = dice.choice(("", *self._volumes))
        slot.network, slot.beside = dice.choice((("", ""), (self.network, ""), ("", self.network)))
        slot.image = dice.choice(("", *self.made.images))
        slot.base = dict(self.made.images.get(slot.image, {}))
        start = dice.random() < 0.7
        body = slot.body(IMAGE, start=start)
        try:
            operation = self.asker.do("POST", "/containers", "container.create", slot.name, body)
        except Failed as failure:
            self.asker.excuse(failure)
            self.adopt(slot)
            self._is_not_begun(slot, failure)
            self._see_volumes()
            return
        slot.id, slot.status = operation["target_id"], "created"
        if slot.volume:
            self.volumes.add(slot.volume)
        if start:
            self._began(slot, operation)

    def _began(self, slot: Slot, operation: dict[str, Any]) -> None:
        """A start succeeded: it runs, or will have ended by itself."""
        if slot.kind in ENDLESS:
            slot.status, slot.exit_code = "running", None
            if (
                self.blows.faults
            ):  # the worker that died may have noted that it could not be started
                slot.unsure += operation["attempts"] - 1
            slot.started(self)
            return
        if slot.kind == FLEETING:
            self._vanishes(slot)
            return
        lives = RETRIES + 1 if slot.kind == "flaky" else 1
        slot.lives += lives
        slot.unsure += lives * (operation["attempts"] - 1)
        slot.status, slot.exit_code = "exited", slot.code

    def _vanishes(self, slot: Slot) -> None:
        """It goes by itself: the system removes it when it has ended."""
        deadline = time.monotonic() + PATIENCE
        while self.asker.find(slot.id) is not None:
            if time.monotonic() > deadline:
                raise Trouble(f"{slot.name}: it is still there {PATIENCE} s after its end")
            time.sleep(0.1)
        slot.forget()

    def _start(self, slot: Slot) -> None:
        if operation := self._ask(slot, "start"):
            self._began(slot, operation)

    def _restart(self, slot: Slot) -> None:
        ran = slot.status == "running"
        if operation := self._ask(slot, "restart"):
            slot.lives += ran
            if slot.kind in ENDLESS:
                slot.unsure += operation["attempts"] - 1
            self._began(slot, operation)

    def _stop(self, slot: Slot) -> None:
        if self._ask(slot, "stop"):
            slot.status, slot.exit_code = "exited", 137 if slot.kind == "deaf" else slot.code
            slot.lives += 1

    def _kill(self, slot: Slot) -> None:
        if self._ask(slot, "kill"):
            slot.status, slot.exit_code = "exited", 137
            slot.lives += 1

    def _pause(self, slot: Slot) -> None:
        if self._ask(slot, "pause"):
            slot.status = "paused"

    def _unpause(self, slot: Slot) -> None:
        if self._ask(slot, "unpause"):
            slot.status = "running"

    def _rename(self, slot: Slot) -> None:
        self._renamed += 1
        before, slot.name = slot.name, f"{self.name}-r{self._renamed}"
        if not self._ask(slot, "rename", {"name": slot.name}):
            slot.name = before
            self.adopt(slot)

    def _update(self, slot: Slot) -> None:
        memory = self._dice.choice((64, 96, 128)) * MIB
        asked: dict[str, Any] = {"limits": {"memory": memory, "pids": 200}}
        policy = slot.policy
        if slot.kind in ("steady", "echo") and self._dice.random() < 0.5:
            policy = self._dice.choice(POLICIES)
            asked["restart"] = {"name": policy or "no"}
        if self._ask(slot, "update", asked):
            slot.memory, slot.policy = memory, policy

    def _remove(self, slot: Slot) -> None:
        path = f"/containers/{slot.id}?force=true"
        try:
            self.asker.do("DELETE", path, "container.remove", slot.id)
        except Failed as failure:
            self.asker.excuse(failure)
            self.adopt(slot)
            return
        slot.forget()

    def _visit(self, slot: Slot) -> None:
        """Its published port leads to it."""
        # Networks of its own have IPv6, the default one has not.
        for host in ("127.0.0.1", "[::1]") if slot.network and has_ipv6() else ("127.0.0.1",):
            told = self._served(f"http://{host}:{slot.port}/hostname")
            if told != slot.id[:12]:
                raise Trouble(f"{slot.name}: its port leads to {told}")

    @staticmethod
    def _served(url: str) -> str:
        deadline = time.monotonic() + LAG
        while True:
            try:
                with urllib.request.urlopen(url, timeout=10) as page:
                    return str(page.read().decode().strip())
            except OSError:
                # It may have begun to run just now, and not listen yet.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    # -- volumes and networks -------------------------------------------------------------------

    def _toggle_volume(self) -> None:
        name = self._dice.choice(self._volumes)
        used = any(slot.id and slot.volume == name for slot in self.slots)
        try:
            if name not in self.volumes:
                self.asker.do("POST", "/volumes", "volume.create", name, {"name": name})
                self.volumes.add(name)
            elif not used:
                self.asker.do("DELETE", f"/volumes/{name}", "volume.remove", name)
                self.volumes.discard(name)
        except Failed as failure:
            self.asker.excuse(failure)
            self._see_volumes()

    def _see_volumes(self) -> None:
        self.volumes = {v["name"] for v in self.asker.get("/volumes")} & set(self._volumes)

    def _toggle_network(self) -> None:
        name = f"{self.name}-net"
        asked = {"name": name, "ipv6": has_ipv6()}
        used = any(slot.id and name in (slot.network, slot.beside) for slot in self.slots)
        try:
            if not self.network:
                self.asker.do("POST", "/networks", "network.create", name, asked)
                self.network = name
            elif not used:
                network = self.asker.get(f"/networks/{name}")["id"]
                self.asker.do("DELETE", f"/networks/{name}", "network.remove", network)
                self.network = ""
        except Failed as failure:
            self.asker.excuse(failure)
            there = {n["name"] for n in self.asker.get("/networks")}
            self.network = name if name in there else ""

    def remove_dead(self) -> None:
        """What a removal that failed has left goes with the next. Raises Failed."""
        for slot in self.slots:
            if slot.status == "dead":
                self._remove(slot)

    def remove_everything(self) -> None:
        for slot in self.slots:
            if slot.id:
                self._remove(slot)
        self.made.remove_all()
        for name in sorted(self.volumes):
            self.asker.do("DELETE", f"/volumes/{name}", "volume.remove", name)
        self.volumes.clear()
        if self.network:
            self._toggle_network()

    def memory_limit(self, container_id: str) -> int | None:
        """In bytes, as the kernel has it; None without one."""
        limit: int = self._groups.open(container_id).counters().get("memory_limit", 0)
        return limit or None

    # -- asking -------------------------------------------------------------------------------

    def _ask(
        self, slot: Slot, action: str, body: dict[str, Any] | None = None
    ) -> dict[str, Any] | None:
        """The operation on the container when it succeeded; None when it failed with an excuse."""
        method, path = "POST", f"/containers/{slot.id}/{action}"
        if action == "update":
            method, path = "PATCH", f"/containers/{slot.id}"
        ran = slot.status in ("running", "paused")
        pid, born = slot.pid, slot.born
        try:
            return self.asker.do(method, path, f"container.{action}", slot.id, body)
        except Failed as failure:
            self.asker.excuse(failure)
            self.adopt(slot)
            if ran and action not in ("stop", "kill", "restart") and start_time(pid) != born:
                raise Trouble(f"{slot.name}: it died of a {action}: {failure}") from None
            if action == "start":
                self._is_not_begun(slot, failure)
            return None

    @staticmethod
    def _is_not_begun(slot: Slot, failure: Failed) -> None:
        """A start that failed leaves nothing that runs, unless nobody was left to look."""
        if slot.status == "running" and failure.code != "worker_lost":
            raise Trouble(f"{slot.name}: it runs, although {failure}")

    def adopt(self, slot: Slot) -> None:
        """After a failure: what is there now is what counts from here on, as long as it holds together."""
        row = self.asker.find(slot.id or slot.name)
        if not row:
            slot.forget()
            return
        time.sleep(1.0)  # whatever is just ending ends
        deadline = time.monotonic() + LAG
        row = self.asker.find(row["id"]) or row
        while row["status"] not in STEADY:
            if time.monotonic() > deadline:
                self._note(f"{slot.name}: it stays {row['status']}: {row['status_error']}")
                break
            time.sleep(0.2)
            row = self.asker.find(row["id"]) or row
        slot.id, slot.name, slot.status = row["id"], row["name"], row["status"]
        slot.beside = self.joined.beside(slot, row)
        if slot.kind == FLEETING and slot.status in ("exited", "dead"):
            self._vanishes(slot)
            return
        slot.exit_code, slot.memory = row["exit_code"], row["limits"]["memory"]
        slot.policy = slot.policy_on_disk(self)
        slot.lives, slot.unsure = len(slot.exits(self)), 0
        slot.started(self)
