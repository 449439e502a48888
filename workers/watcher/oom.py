"""OOM kills as events: "The kernel killed dd (pid 12): it was over the memory limit of 64 MiB"."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runtime.engine.top import pid_inside
from runtime.model.stats import StatsSample
from webui.advisor.rules import size
from webui.containers.models import Container
from webui.containers.recording import container_event
from webui.containers.replica import container_usage
from workers.watcher.kernel_log import OomKill

PAUSE = 5.0  # seconds between two events of one container; kills in between are counted in the next


@dataclass(slots=True)
class _Known:
    counted: int = 0  # kills of the log since the last look at the counter
    total: int = 0
    waiting: int = 0  # kills that no event has told yet
    last: float = float("-inf")
    unseen: int = 0  # kills of the counter that the log has not told at the last look


@dataclass(slots=True)
class OomKills:
    """Joins the log and the counters: each kill is told once, by whichever knows it.

    `record(container_id or its first digits, facts)` writes the event. Thread-safe.
    """

    record: Callable[[str, dict[str, Any]], None]
    clock: Callable[[], float] = time.monotonic
    log_readable: bool = False
    _known: dict[str, _Known] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def from_log(self, kill: OomKill, pid: int | None = None) -> None:
        """`pid`: as the container sees it, or None when the process had gone already."""
        with self._lock:
            known = self._known.setdefault(kill.container, _Known())
            known.counted += 1
            if known.counted > known.unseen:  # else the counter has it already
                known.total += 1
            facts = {
                "process": kill.process,
                "pid": pid,
                "host_pid": kill.host_pid,
                "limit": kill.limit,
                "host_wide": kill.host_wide,
                "at": kill.time,
            }
            self._tell(kill.container, known, 1, facts)

    def from_counter(self, container_id: str, sample: StatsSample, grown: int) -> None:
        """Each look at the counter of a running container: `grown` by how much since the last."""
        with self._lock:
            key = container_id[:32]
            if grown <= 0 and key not in self._known:
                return
            known = self._known.setdefault(key, _Known())
            # Groups made anew count from nothing.
            known.total = sample.oom_kills if grown < 0 else max(known.total, sample.oom_kills)
            missing = max(0, known.unseen + max(0, grown) - known.counted)
            known.counted = 0
            if missing and self.log_readable and known.unseen < missing:
                known.unseen = missing  # its lines may be on the way: the next look decides
                return
            known.unseen = 0
            if missing or known.waiting:
                facts = {
                    "process": "",
                    "pid": None,
                    "host_pid": 0,
                    "limit": sample.memory_limit,
                    "host_wide": False,
                    "at": sample.time,
                }
                self._tell(key, known, missing, facts)

    def forget(self, active: frozenset[str]) -> None:
        """Drop what is known of containers that do not run."""
        with self._lock:
            prefixes = {container_id[:32] for container_id in active}
            for key in self._known.keys() - prefixes:
                if self.clock() - self._known[key].last > PAUSE:
                    del self._known[key]

    def _tell(self, key: str, known: _Known, kills: int, facts: dict[str, Any]) -> None:
        known.waiting += kills
        now = self.clock()
        if now - known.last < PAUSE:
            return
        known.last = now
        kills, known.waiting = known.waiting, 0
        self.record(key, {**facts, "kills": kills, "count": known.total})


def pid_in_container(kill: OomKill) -> int | None:
    """The pid inside, as long as the killed process is still there; None otherwise."""
    try:
        groups = Path(f"/proc/{kill.host_pid}/cgroup").read_text(encoding="utf-8")
    except OSError:
        return None
    # The log counts pids from the first namespace of all; in another one it is some other process.
    return pid_inside(kill.host_pid) or None if kill.container in groups else None


def oom_record(container: str, facts: dict[str, Any]) -> None:
    """The event `container.oom`, and on the container's row the last kill. Unknown containers are left out."""
    row = Container.objects.filter(pk__startswith=container).select_related("host").first()
    if row is None:
        return
    if facts["pid"] is None and facts["host_pid"] and facts["host_pid"] == row.pid:
        facts = {**facts, "pid": 1}
    facts["limit"] = facts["limit"] or (row.spec.get("limits", {}).get("memory") or 0)
    moment = datetime.fromtimestamp(facts.pop("at"), UTC)
    facts["message"] = sentence(facts)
    container_event(row, "container.oom", facts, time=moment)
    usage = {"oom_last": {**facts, "time": moment.timestamp()}, "oom_kills": facts["count"]}
    container_usage(container_id=row.pk, usage=usage)


def sentence(facts: dict[str, Any]) -> str:
    """What happened, for people; the time is the event's."""
    who = facts["process"] or "a process that it did not name"
    if facts["pid"]:
        who += f" (pid {facts['pid']})"
    elif facts["host_pid"]:
        who += f" (pid {facts['host_pid']} on the host)"
    if facts["host_wide"]:
        why = "the host ran out of memory"
    elif facts["limit"]:
        why = f"memory limit {size(facts['limit'])}"
    else:
        why = "out of memory"
    more = f" Together {facts['kills']} since the event before." if facts["kills"] > 1 else ""
    often = (
        f" It is kill number {facts['count']} since the container was started."
        if facts["count"] > 1
        else ""
    )
    return f"The kernel killed {who}: {why}.{more or often}"
