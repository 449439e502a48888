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
from tests.support.platform import Api, free_port
from tests.support.slot import ENDLESS, RETRIES, SCRIPTS, Slot

IMAGE = "slipway/starter:latest"
PATIENCE = 60.0  # seconds for one operation, whatever dies meanwhile
LAG = 6.0  # seconds for the replica to say what is so
MIB = 1024 * 1024
STEADY = ("created", "running", "paused", "exited", "dead")


class Trouble(Exception):
    """Something that must not be."""


class Failed(Exception):
    """The operation failed, and said why."""

    def __init__(self, operation: dict[str, Any]) -> None:
        self.operation = operation
        self.error = operation["error"] or {}
        self.code = self.error.get("code", "")
        super().__init__(f"{operation['kind']} failed: {self.code}: {self.error.get('message')}")


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
        excuses: Callable[[Failed], bool] | None = None,
    ) -> None:
        self.api, self.config, self.name, self._dice = api, config, name, dice
        self._operations = operations
        self._say = say
        self._excuses = excuses or is_about_the_platform
        self.slots = [Slot(f"{name}-{i}", free_port()) for i in range(slots)]
        self._renamed = 0
        self._volumes = [f"{name}-v{i}" for i in range(2)]
        self.volumes: set[str] = set()
        self.network = ""  # name of its own one, while it is there
        self._seen: set[str] = set()  # operations of ours
        self._groups = CgroupManager(config)
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
                    self._adopt(slot)

    def _note(self, text: str) -> None:
        self._say(f"{self.name}: TROUBLE {text}")
        self.troubles.append(text)

    # -- choosing -----------------------------------------------------------------------------

    def _act(self, slot: Slot) -> None:
        if self._dice.random() < 0.12:
            self._dice.choice((self._toggle_volume, self._toggle_network))()
            return
        choices: dict[str, dict[str, int]] = {
            "": {"create": 1},
            "created": {"start": 4, "remove": 1, "rename": 1, "update": 1},
            "exited": {"start": 4, "restart": 1, "remove": 2, "rename": 1, "update": 1},
            "running": {
                "stop": 3, "kill": 3, "restart": 3, "pause": 2, "rename": 1, "update": 2,
                "remove": 1, "visit": 2,
            },
            "paused": {"unpause": 4, "kill": 1, "stop": 1, "remove": 1},
            "dead": {"remove": 1},
        }  # fmt: skip
        weights = choices[slot.status]
        action = self._dice.choices(list(weights), list(weights.values()))[0]
        self._say(f"{slot.name} ({slot.kind}, {slot.status or 'none'}, {slot.id[:8]}): {action}")
        getattr(self, f"_{action}")(slot)
        self._say(f"{slot.name}: {action} done: {slot.status}")
        self._hold(slot)

    def _hold(self, slot: Slot) -> None:
        """The truth about it, as soon as the platform had time to show it."""
        self._until(slot.check(self), LAG)

    def _until(self, look: Callable[[], list[str]], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                wrong = look()
            except httpx.HTTPError:
                # Web was killed just now: the time it is away does not count.
                self._wait_for_web()
                deadline = time.monotonic() + seconds
                continue
            if not wrong:
                return
            if time.monotonic() > deadline:
                raise Trouble("; ".join(wrong))
            time.sleep(0.1)

    # -- actions on a container -----------------------------------------------------------------

    def _create(self, slot: Slot) -> None:
        slot.kind = self._dice.choice(list(SCRIPTS))
        slot.code = self._dice.randrange(1, 100)
        slot.publishes = slot.kind == "steady" and self._dice.random() < 0.6
        slot.volume = self._dice.choice(("", *self._volumes))
        slot.network = self._dice.choice(("", self.network))
        start = self._dice.random() < 0.7
        body = slot.body(IMAGE, start=start)
        try:
            operation = self._do("POST", "/containers", "container.create", slot.name, body)
        except Failed as failure:
            self._excuse(failure)
            self._adopt(slot)
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
            slot.started(self)
            return
        lives = RETRIES + 1 if slot.kind == "flaky" else 1
        slot.lives += lives
        slot.unsure += lives * (operation["attempts"] - 1)
        slot.status, slot.exit_code = "exited", slot.code

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
            self._adopt(slot)

    def _update(self, slot: Slot) -> None:
        memory = self._dice.choice((64, 96, 128)) * MIB
        limits = {"memory": memory, "pids": 200}
        if self._ask(slot, "update", {"limits": limits}):
            slot.memory = memory

    def _remove(self, slot: Slot) -> None:
        path = f"/containers/{slot.id}?force=true"
        try:
            self._do("DELETE", path, "container.remove", slot.id)
        except Failed as failure:
            self._excuse(failure)
            self._adopt(slot)
            return
        slot.forget()

    def _visit(self, slot: Slot) -> None:
        """Its published port leads to it."""
        if slot.publishes and slot.kind == "steady":
            # Networks of its own have IPv6, the default one has not.
            for host in ("127.0.0.1", "[::1]") if slot.network and has_ipv6() else ("127.0.0.1",):
                url = f"http://{host}:{slot.port}/hostname"
                with urllib.request.urlopen(url, timeout=10) as page:
                    if page.read().decode().strip() != slot.id[:12]:
                        raise Trouble(f"{slot.name}: its port leads elsewhere")

    # -- volumes and networks -------------------------------------------------------------------

    def _toggle_volume(self) -> None:
        name = self._dice.choice(self._volumes)
        used = any(slot.id and slot.volume == name for slot in self.slots)
        try:
            if name not in self.volumes:
                self._do("POST", "/volumes", "volume.create", name, {"name": name})
                self.volumes.add(name)
            elif not used:
                self._do("DELETE", f"/volumes/{name}", "volume.remove", name)
                self.volumes.discard(name)
        except Failed as failure:
            self._excuse(failure)
            self._see_volumes()

    def _see_volumes(self) -> None:
        self.volumes = {v["name"] for v in self._get("/volumes")} & set(self._volumes)

    def _toggle_network(self) -> None:
        name = f"{self.name}-net"
        asked = {"name": name, "ipv6": has_ipv6()}
        used = any(slot.id and slot.network == name for slot in self.slots)
        try:
            if not self.network:
                self._do("POST", "/networks", "network.create", name, asked)
                self.network = name
            elif not used:
                network = self._get(f"/networks/{name}")["id"]
                self._do("DELETE", f"/networks/{name}", "network.remove", network)
                self.network = ""
        except Failed as failure:
            self._excuse(failure)
            self.network = name if name in {n["name"] for n in self._get("/networks")} else ""

    def remove_everything(self) -> None:
        for slot in self.slots:
            if slot.id:
                self._remove(slot)
        for name in sorted(self.volumes):
            self._do("DELETE", f"/volumes/{name}", "volume.remove", name)
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
            return self._do(method, path, f"container.{action}", slot.id, body)
        except Failed as failure:
            self._excuse(failure)
            self._adopt(slot)
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

    def _excuse(self, failure: Failed) -> None:
        if not self._excuses(failure):
            raise Trouble(f"{failure.operation['target_name']}: {failure}")
        self._say(f"{self.name}: excused: {failure}")

    def _adopt(self, slot: Slot) -> None:
        """After a failure: what is there now is what counts from here on, as long as it holds together."""
        self._wait_for_web()
        deadline = time.monotonic() + LAG
        row = self.find(slot.id or slot.name)
        while row and row["status"] not in STEADY:
            if time.monotonic() > deadline:
                self._note(f"{slot.name}: it stays {row['status']}: {row['status_error']}")
                break
            time.sleep(0.2)
            row = self.find(slot.id or slot.name)
        if not row:
            slot.forget()
            return
        time.sleep(1.0)  # whatever is just ending ends
        row = self.find(slot.id or slot.name) or row
        slot.id, slot.name, slot.status = row["id"], row["name"], row["status"]
        slot.exit_code, slot.memory = row["exit_code"], row["limits"]["memory"]
        slot.lives, slot.unsure = len(slot.exits(self)), 0
        slot.started(self)

    def _do(
        self, method: str, path: str, kind: str, target: str, body: Any = None
    ) -> dict[str, Any]:
        """The operation, once it succeeded. Raises Failed, or Trouble when it is refused or has no end."""
        deadline = time.monotonic() + PATIENCE
        identity = self._sent(method, path, kind, target, body)
        self._seen.add(identity)
        while True:
            operation: dict[str, Any] = self._get(f"/operations/{identity}")
            if operation["status"] == "succeeded":
                return operation
            if operation["status"] not in ("pending", "running"):
                raise Failed(operation)
            if time.monotonic() > deadline:
                raise Trouble(
                    f"{kind} of {target[:20]} is {operation['status']} after {PATIENCE} s"
                )
            time.sleep(0.1)

    def _sent(self, method: str, path: str, kind: str, target: str, body: Any) -> str:
        """The id of the operation that was recorded, although web may die while it answers."""
        deadline = time.monotonic() + LAG
        while True:
            try:
                answer = self.api.http.request(method, path, json=body)
            except httpx.HTTPError:
                self._wait_for_web()
                if recorded := self._recorded(kind, target):
                    return recorded
                deadline = time.monotonic() + LAG
                continue
            if answer.status_code == 202:
                return str(answer.json()["id"])
            # What the replica does not say yet is refused; it has a moment to say it.
            if answer.status_code != 409 or time.monotonic() > deadline:
                raise Trouble(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
            time.sleep(0.2)

    def _recorded(self, kind: str, target: str) -> str:
        """An operation of this kind that we asked for without hearing of it."""
        if kind in ("container.create", "network.create"):
            thing = self.find(target, f"{kind.partition('.')[0]}s")
            if thing is None:
                return ""
            target = thing["id"]
        for operation in self._get(f"/operations?target={target}"):
            if operation["kind"] == kind and operation["via"] != "system":
                return "" if operation["id"] in self._seen else str(operation["id"])
        return ""

    def find(self, key: str, what: str = "containers") -> dict[str, Any] | None:
        """The row by name or id; None when there is none."""
        while True:
            try:
                answer = self.api.http.get(f"/{what}/{key}")
            except httpx.HTTPError:
                self._wait_for_web()
                continue
            return answer.json() if answer.is_success else None

    def _get(self, path: str) -> Any:
        while True:
            try:
                return self.api.get(path)
            except httpx.HTTPError:
                self._wait_for_web()

    def _wait_for_web(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.api.get("/operations?limit=1")
                return
            except httpx.HTTPError:
                if time.monotonic() > deadline:
                    raise Trouble("web does not come back") from None
                time.sleep(0.1)


def is_about_the_platform(failure: Failed) -> bool:
    """While its processes are being killed, an operation may end with their absence as its reason."""
    return failure.code in ("worker_lost", "launcher_unavailable")


def is_honest(failure: Failed) -> bool:
    """While calls fail, an operation may fail for that: with an error that somebody foresaw."""
    return failure.code != "internal" and bool(failure.error.get("message"))
