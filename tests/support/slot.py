"""One container that an actor works on: what was asked of it, and so what must be true of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runtime.kernel.procfs import start_time

if TYPE_CHECKING:
    from tests.support.actor import Actor

# Kinds of containers, by what their first process does. `$CODE` is each container's own.
SCRIPTS = {
    # Ends with its code when it is asked to, and serves a page.
    "steady": "httpd -p 80 -h /etc; trap 'exit $CODE' TERM; while :; do sleep 1 & wait $!; done",
    # Hears nothing, and has to be killed.
    "deaf": "trap '' TERM; while :; do sleep 1; done",
    # Ends by itself.
    "brief": "sleep 0.3; exit $CODE",
    # Fails, and is started again twice.
    "flaky": "sleep 0.1; exit $CODE",
}
RETRIES = 2  # of a flaky one
ENDLESS = ("steady", "deaf")


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
    volume: str = ""
    network: str = ""
    memory: int | None = None  # bytes

    def forget(self) -> None:
        self.id = self.status = self.volume = self.network = ""
        self.exit_code, self.publishes, self.memory = None, False, None
        self.pid = self.born = self.lives = self.unsure = 0

    def body(self, image: str, *, start: bool) -> dict[str, Any]:
        """The request that makes it."""
        body: dict[str, Any] = {
            "image": image,
            "name": self.name,
            "command": ["sh", "-c", SCRIPTS[self.kind]],
            "env": {"CODE": str(self.code)},
            "stop_timeout": 1 if self.kind == "deaf" else 20,
            "start": start,
        }
        if self.kind == "flaky":
            body["restart"] = {"name": "on-failure", "max_retries": RETRIES}
        if self.publishes:
            body["ports"] = [f"{self.port}:80"]
        if self.volume:
            body["volumes"] = [f"{self.volume}:/data"]
        if self.network:
            body["network"] = self.network
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

    def exits(self, actor: Actor) -> list[dict[str, Any]]:
        try:
            text = (actor.config.bundle(self.id) / "exits.jsonl").read_text()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in text.splitlines()]

    def started(self, actor: Actor) -> None:
        """Note who runs now: from here on nobody but us may end it."""
        state = self.state(actor)
        self.pid, self.born = state.get("pid", 0), state.get("start_time", 0)

    def check(self, actor: Actor) -> Callable[[], list[str]]:
        """What is not as it must be, when asked: in the database, on disk, in the kernel."""
        return lambda: list(self._check(actor))

    def _check(self, actor: Actor) -> list[str]:
        if not self.id:
            found = actor.find(self.name)
            return [f"{self.name} is there: {found['status']}"] if found else []
        row = actor.api.get(f"/containers/{self.id}/inspect")
        about = f"{self.name} ({self.kind}, {self.id[:12]})"
        wrong = []

        def must(what: str, got: Any, due: Any) -> None:
            if got != due:
                wrong.append(f"{about}: {what} is {got!r}, not {due!r}")

        must("status shown", row["status"], self.status)
        must("name shown", row["name"], self.name)
        must("on the host", row["present"], True)
        spec = json.loads((actor.config.bundle(self.id) / "spec.json").read_text())
        must("name on disk", spec["name"], self.name)
        must("memory on disk", spec["limits"]["memory"], self.memory)
        must("memory shown", row["limits"]["memory"], self.memory)
        state = self.state(actor)
        if self.status in ("running", "paused"):
            must("pid on disk", state.get("pid"), self.pid)
            must("pid shown", row["pid"], self.pid)
            must("start time", start_time(self.pid), self.born)
            must("state on disk", state.get("status"), self.status)
            must("memory in the kernel", actor.memory_limit(self.id), self.memory)
        if self.status == "exited":
            if row["exit_reason"] != "start_failed":  # its policy's own start met a fault
                must("exit code shown", row["exit_code"], self.exit_code)
            must("state on disk", state.get("status", "exited"), "exited")
            must("its process", start_time(self.pid) == self.born != 0, False)
        exits = self.exits(actor)
        if not self.lives <= len(exits) <= self.lives + self.unsure:
            due = f"{self.lives} to {self.lives + self.unsure}"
            seen = [(e["code"], e["reason"]) for e in exits]
            wrong.append(f"{about}: {len(exits)} ends are on record, not {due}: {seen}")
        return wrong
