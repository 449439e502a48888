"""One container that an actor works on: what was asked of it, and so what must be true of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.kernel.procfs import start_time
from tests.support.asking import PATIENCE
from tests.support.inside import digest

if TYPE_CHECKING:
    from tests.support.actor import Actor

# Which life has its trap set, by when it began: a signal that comes earlier is lost on a first process.
_HEARS = "cut -d' ' -f22 /proc/1/stat > /hears"
# Kinds of containers, by what their first process does. `$CODE` is each container's own.
SCRIPTS = {
    # Ends with its code when it is asked to, and serves a page.
    "steady": f"httpd -p 80 -h /etc; trap 'exit $CODE' TERM; {_HEARS}; echo ready $CODE; "
    "while :; do sleep 1 & wait $!; done",
    # Says what it is told.
    "echo": f"trap 'exit $CODE' TERM; {_HEARS}; while read line; do echo got $line; done; exit $CODE",
    # Hears nothing, and has to be killed.
    "deaf": f"trap '' TERM; {_HEARS}; echo ready $CODE; while :; do sleep 1; done",
    # Ends by itself.
    "brief": "sleep 0.3; exit $CODE",
    # Fails, and is started again twice.
    "flaky": "sleep 0.1; exit $CODE",
    # Ends by itself, and is removed then.
    "fleeting": "sleep 0.3; exit $CODE",
}
RETRIES = 2  # of a flaky one
ENDLESS = ("steady", "echo", "deaf")
FLEETING = "fleeting"
POLICIES = ("", "on-failure", "always", "unless-stopped")  # of those that end when asked to
Files = dict[str, set[str]]  # path -> digests of what may be there, "" for nothing
HEALTH = {"command": "test ! -e /ill", "interval": 0.5, "retries": 2}


@dataclass
class Slot:
    name: str
    port: int  # of the host, for one that publishes
    kind: str = "steady"
    code: int = 0  # with which it ends by itself, or when it is asked to
    id: str = ""  # "" while there is none
    status: str = ""
    exit_code: int | None = None
    pid: int = 0
    born: int = 0
    lives: int = 0  # ends that must be on record
    unsure: int = 0  # more that may be: a start that was begun again by the next worker
    publishes: bool = False
    policy: str = ""  # of restarts
    checked: bool = False  # has a health check
    userns: str = ""
    volume: str = ""
    network: str = ""
    beside: str = ""  # another network
    memory: int | None = None  # bytes
    image: str = ""  # "" for the one that all begin with
    base: Files = field(default_factory=dict)  # what it has of its image
    files: Files = field(default_factory=dict)  # what was put in

    def forget(self) -> None:
        self.id = self.status = self.volume = self.network = self.policy = self.userns = ""
        self.beside = ""
        self.exit_code, self.publishes, self.memory, self.checked = None, False, None, False
        self.pid = self.born = self.lives = self.unsure = 0
        self.image, self.base, self.files = "", {}, {}

    def can(self, action: str, status: str) -> bool:
        """Whether this kind of container is made for it."""
        if action == "visit":
            return self.publishes
        if action == "sicken":
            return self.checked
        if action == "resolve":
            return bool(self.network)
        if action == "commit":
            return not self.checked  # its check would be the image's
        if action == "look":
            return bool(self.base)
        if action == "attach":
            return self.kind in ENDLESS
        if action == "crash":
            return self.kind in ("steady", "echo")
        return True

    def body(self, image: str, *, start: bool) -> dict[str, Any]:
        """The request that makes it."""
        body: dict[str, Any] = {
            "image": self.image or image,
            "name": self.name,
            "command": ["sh", "-c", SCRIPTS[self.kind]],
            "env": {"CODE": str(self.code)},
            "stdin": self.kind == "echo",
            "stop_timeout": 1 if self.kind == "deaf" else 20,
            "auto_remove": self.kind == FLEETING,
            "userns": self.userns,
            "start": start,
        }
        if self.kind == "flaky":
            body["restart"] = {"name": "on-failure", "max_retries": RETRIES}
        if self.policy:
            body["restart"] = {"name": self.policy}
        if self.checked:
            body["health"] = HEALTH
        if self.publishes:
            body["ports"] = [f"{self.port}:80"]
        if self.volume:
            body["volumes"] = [f"{self.volume}:/data"]
        if self.network:
            body["network"] = self.network
        if self.beside:
            body["networks"] = [self.beside]
        return body

    # -- facts --------------------------------------------------------------------------------

    def state(self, actor: Actor) -> dict[str, Any]:
        """state.json; {} when there is none."""
        try:
            text = (actor.config.container_run(self.id) / "state.json").read_text()
        except FileNotFoundError:
            return {}
        state: dict[str, Any] = json.loads(text)
        return state

    def spec(self, actor: Actor) -> dict[str, Any]:
        """spec.json"""
        text = (actor.config.bundle(self.id) / "spec.json").read_text()
        spec: dict[str, Any] = json.loads(text)
        return spec

    def policy_on_disk(self, actor: Actor) -> str:
        name = str(self.spec(actor)["restart"]["name"])
        return "" if name == "no" or self.kind == "flaky" else name

    def exits(self, actor: Actor) -> list[dict[str, Any]]:
        try:
            text = (actor.config.bundle(self.id) / "exits.jsonl").read_text()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in text.splitlines()]

    def place(self, actor: Actor, path: str) -> Path:
        """On the host, of a path in the container."""
        if self.volume and path.startswith("/data/"):
            return actor.config.volume(self.volume) / "_data" / path.removeprefix("/data/")
        return actor.config.bundle(self.id) / "upper" / path.lstrip("/")

    def is_ill(self, actor: Actor) -> bool:
        return self.place(actor, "/ill").exists()

    def started(self, actor: Actor) -> None:
        """Note who runs now: from here on nobody but us may end it. It hears us when this returns."""
        state = self.state(actor)
        self.pid, self.born = state.get("pid", 0), state.get("start_time", 0)
        if state.get("status") == "running" and self.kind in ENDLESS:
            actor.until(lambda: self._not_ready(actor), PATIENCE)

    def _not_ready(self, actor: Actor) -> list[str]:
        said = _content(self.place(actor, "/hears"))
        if said == f"{self.born}\n".encode() or start_time(self.pid) != self.born:
            return []
        return [f"{self.name} ({self.kind}): it does not say that it hears: {said!r}"]

    # -- what must be true ----------------------------------------------------------------------

    def check(self, actor: Actor) -> Callable[[], list[str]]:
        """What is not as it must be, when asked: in the database, on disk, in the kernel."""
        return lambda: list(self._check(actor))

    def _check(self, actor: Actor) -> Iterator[str]:
        if not self.id:
            if row := actor.asker.find(self.name):
                yield f"{self.name} is there: {row['status']}"
            return
        row = actor.asker.api.get(f"/containers/{self.id}/inspect")
        about = f"{self.name} ({self.kind}, {self.id[:12]})"
        for what, got, due in self._facts(actor, row):
            if got != due:
                yield f"{about}: {what} is {got!r}, not {due!r}"
        exits = self.exits(actor)
        if not self.lives <= len(exits) <= self.lives + self.unsure:
            due = f"{self.lives} to {self.lives + self.unsure}"
            seen = [(e["code"], e["reason"]) for e in exits]
            yield f"{about}: {len(exits)} ends are on record, not {due}: {seen}"
        # Of one whose removal failed half-way nothing is promised.
        for path, digests in self.files.items() if self.status != "dead" else ():
            if (found := digest(_content(self.place(actor, path)))) not in digests:
                yield f"{about}: {path} holds {found!r}, not one of {digests}"

    def _facts(self, actor: Actor, row: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
        """What, how it is, how it must be."""
        spec, state = self.spec(actor), self.state(actor)
        yield "status shown", row["status"], self.status
        yield "name shown", row["name"], self.name
        yield "on the host", row["present"], True
        yield "name on disk", spec["name"], self.name
        yield "memory on disk", spec["limits"]["memory"], self.memory
        yield "memory shown", row["limits"]["memory"], self.memory
        yield "policy on disk", self.policy_on_disk(actor), self.policy
        yield "specification in the database", row["spec"], spec
        networks = [endpoint["network_id"] for endpoint in spec["endpoints"]]
        yield "networks shown", [network["id"] for network in row["networks"]], networks
        if self.status in ("running", "paused"):
            yield "pid on disk", state.get("pid"), self.pid
            yield "pid shown", row["pid"], self.pid
            yield "start time", start_time(self.pid), self.born
            yield "state on disk", state.get("status"), self.status
            yield "memory in the kernel", actor.memory_limit(self.id), self.memory
            yield "first id mapped", _first_id(self.pid) != 0, self._is_mapped(actor)
        if self.status == "running" and self.checked:
            health = "unhealthy" if self.is_ill(actor) else "healthy"
            yield "health on disk", state["health"]["status"], health
            yield "health shown", row["health"]["status"], health
        if self.status == "exited":
            if row["exit_reason"] != "start_failed":  # its policy's own start met a fault
                yield "exit code shown", row["exit_code"], self.exit_code
            yield "state on disk", state.get("status", "exited"), "exited"
            yield "its process", start_time(self.pid) == self.born != 0, False

    def _is_mapped(self, actor: Actor) -> bool:
        told = json.loads(actor.config.user_namespaces.read_text())
        return self.userns != "host" and not told["reason"]


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _first_id(pid: int) -> int:
    """Of the host, that the container's root has."""
    try:
        return int(Path(f"/proc/{pid}/uid_map").read_text().split()[1])
    except (OSError, IndexError):
        return -1
