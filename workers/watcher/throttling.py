"""Events for containers that their CPU limit holds back: when it begins, and when it has passed.

Heavily means in more than half of the scheduling periods of the last 30 s. It has passed when it was less than
a fifth of them: the gap between the two, and a pause between two beginnings, keep a container on the edge from
filling the feed. Source: Documentation/scheduler/sched-bwc.rst ("Statistics").
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from runtime.model.stats import StatsSample
from webui.containers.models import Container
from webui.operations.services import event_record

WINDOW = 30.0  # seconds
HEAVY, PASSED = 0.5, 0.2  # shares of periods
PAUSE = 300.0  # seconds between two beginnings of one container
FEWEST = 20  # periods in the window: a moment of work says nothing


@dataclass(slots=True)
class _Seen:
    samples: deque[StatsSample] = field(default_factory=deque)
    since: float | None = None  # when the beginning that was told was, Unix seconds
    told: float = float("-inf")


class Throttling:
    """Fed with readings some seconds apart; `record(container_id, kind, data)` writes the event."""

    def __init__(self, record: Callable[[str, str, dict[str, Any]], None]) -> None:
        self._record = record
        self._seen: dict[str, _Seen] = {}

    def look(self, container_id: str, sample: StatsSample) -> None:
        seen = self._seen.setdefault(container_id, _Seen())
        samples = seen.samples
        if samples and sample.cpu_periods < samples[-1].cpu_periods:
            samples.clear()  # started anew
        samples.append(sample)
        # The first one is the last that is at least a window old.
        while len(samples) > 1 and sample.time - samples[1].time >= WINDOW:
            samples.popleft()
        first = samples[0]
        if sample.time - first.time < WINDOW:
            return
        periods = sample.cpu_periods - first.cpu_periods
        held = sample.cpu_throttled_periods - first.cpu_throttled_periods
        share = held / periods if periods >= FEWEST else 0.0
        data: dict[str, Any] = {
            "share": round(share, 2),
            "periods": periods,
            "throttled_periods": held,
            "throttled_seconds": round(
                (sample.cpu_throttled_time - first.cpu_throttled_time) / 1e9, 1
            ),
            "cpus": round(sample.cpu_limit, 3),
        }
        if seen.since is None and share > HEAVY and sample.time - seen.told >= PAUSE:
            seen.since = seen.told = sample.time
            self._record(container_id, "container.throttled", data | {"message": _begun(data)})
        elif seen.since is not None and share < PASSED:
            lasted, seen.since = round(sample.time - seen.since), None
            message = f"It was held back by its CPU limit for {lasted} s."
            data |= {"lasted": lasted, "message": message}
            self._record(container_id, "container.unthrottled", data)

    def forget(self, active: frozenset[str]) -> None:
        """Drop what is known of containers that do not run: their end says enough."""
        for container_id in self._seen.keys() - active:
            del self._seen[container_id]


def _begun(data: dict[str, Any]) -> str:
    limit = f" of {data['cpus']:g} cores" if data["cpus"] else ""
    return (
        f"In {data['share']:.0%} of its time slices of the last {WINDOW:.0f} s it had to wait, because it "
        f"wanted more than its CPU limit{limit}. Raise the limit, or give it less to do."
    )


def throttling_record(container_id: str, kind: str, data: dict[str, Any]) -> None:
    """The event; nothing for a container without a row."""
    row = Container.objects.filter(pk=container_id).select_related("host").first()
    if row is not None:
        event_record(
            host=row.host,
            type=kind,
            target_type="container",
            target_id=row.pk,
            target_name=row.name,
            data=data,
        )
