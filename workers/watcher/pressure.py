"""Events for containers whose processes wait for CPU, memory or disks: when it begins, and when it has passed.

The kernel measures for each group in which share of the last ten seconds some of its processes waited, or all
that wanted to run ("full"): pressure stall information, of cgroup v2 alone (Documentation/accounting/psi.rst).
Memory and disks count when all waited: that some do is everyday work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from runtime.model.stats import StatsSample

# Percent of the last ten seconds from which on it is said, and below a third of which it has passed.
HEAVY = {"cpu.some": 60.0, "memory.full": 10.0, "io.full": 30.0}
READINGS = 3  # in a row; ten seconds apart
PAUSE = 300.0  # seconds between two beginnings of one kind
_WHY = {
    "cpu": "some of its processes waited for a processor. Give it more CPU, or less to do",
    "memory": "none of its processes could go on for want of memory. Raise its memory limit",
    "io": "none of its processes could go on, because all waited for disks",
}
_NAMES = {"cpu": "a processor", "memory": "memory", "io": "disks"}


@dataclass(slots=True)
class _Seen:
    values: deque[float] = field(default_factory=lambda: deque(maxlen=READINGS))
    since: float | None = None  # when the beginning that was told was, Unix seconds
    told: float = float("-inf")


class Pressure:
    """Fed with readings some seconds apart; `record(container_id, kind, data)` writes the event."""

    def __init__(self, record: Callable[[str, str, dict[str, Any]], None]) -> None:
        self._record = record
        self._seen: dict[tuple[str, str], _Seen] = {}

    def look(self, container_id: str, sample: StatsSample) -> None:
        for name, heavy in HEAVY.items():
            value = sample.pressure.get(f"{name}.avg10")
            if value is None:
                continue  # this host does not measure it
            seen = self._seen.setdefault((container_id, name), _Seen())
            seen.values.append(value)
            if len(seen.values) == READINGS:
                self._judge(container_id, name, heavy, seen, sample.time)

    def _judge(self, container_id: str, name: str, heavy: float, seen: _Seen, now: float) -> None:
        resource = name.partition(".")[0]
        share = round(sum(seen.values) / READINGS, 1)
        data: dict[str, Any] = {"resource": resource, "measure": name, "percent": share}
        if seen.since is None and min(seen.values) >= heavy and now - seen.told >= PAUSE:
            seen.since = seen.told = now
            data["message"] = f"In {share:g} % of the last half minute {_WHY[resource]}."
            self._record(container_id, "container.pressure", data)
        elif seen.since is not None and max(seen.values) < heavy / 3:
            lasted, seen.since = round(now - seen.since), None
            message = f"It has waited for {_NAMES[resource]} for {lasted} s, and does no longer."
            data |= {"lasted": lasted, "message": message}
            self._record(container_id, "container.pressure_passed", data)

    def forget(self, active: frozenset[str]) -> None:
        """Drop what is known of containers that do not run."""
        for key in [key for key in self._seen if key[0] not in active]:
            del self._seen[key]
