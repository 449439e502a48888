"""Slow facts for the advisor: throttling, memory peaks, OOM kills, and what grows outside of volumes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any, Protocol

from runtime.errors import EngineError
from runtime.model.stats import StatsSample

logger = logging.getLogger(__name__)

INTERVAL = 10.0  # seconds between two readings of everything
# What is written into no volume is to be warned of before somebody removes the container.
WALK_PAUSE = 30.0  # seconds between two walks of one writable layer
# A walk takes the disk's time in proportion to the files: after one, rest this many times as long.
WALK_SHARE = 20
WALK_QUICK = 0.02  # seconds; what takes no longer needs no rest
PATHS = 5  # largest paths kept


class UsageSource(Protocol):
    def stats_of(self, ids: Collection[str]) -> list[StatsSample]: ...

    def writable_usage(self, container_id: str) -> Any: ...


class Facts:
    """What was found out about each container, told to `write(container_id, usage)` when it matters.

    `counted(container_id, sample, grown)` is told at each reading but the first by how much the counter of
    processes that the kernel killed for want of memory has grown; an end by it is in the exit record.
    `looked(container_id, sample)` is told each reading.
    """

    def __init__(
        self,
        source: UsageSource,
        *,
        write: Callable[[str, dict[str, Any]], None],
        counted: Callable[[str, StatsSample, int], None],
        looked: Callable[[str, StatsSample], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._write = write
        self._counted = counted
        self._looked = looked
        self._clock = clock
        self._last: dict[str, StatsSample] = {}
        self._told: dict[str, dict[str, Any]] = {}
        self._walked: dict[str, float] = {}
        self._walk_after = 0.0
        self._left: dict[str, None] = {}  # containers that have ended, and are to be walked

    def round(self, active: Iterable[str]) -> None:
        """Read every running container once, and walk the writable layer of at most one of them."""
        ids = set(active)
        for sample in self._source.stats_of(ids):
            container_id = sample.id
            before = self._last.get(container_id)
            self._tell(container_id, sample_facts(sample, before))
            self._looked(container_id, sample)
            if before is not None:
                self._counted(container_id, sample, sample.oom_kills - before.oom_kills)
            self._last[container_id] = sample
        for known in (self._last, self._told, self._walked):
            for container_id in known.keys() - ids:
                known.pop(container_id)
        self._walk(ids)

    def ended(self, container_id: str) -> None:
        """Walk what a container has left: one that ran shortly was not walked before, and the others have gone on
        writing. The warning of what lies in no volume counts for as long as the container is there.
        """
        self._left[container_id] = None
        self._walk_left()

    def _walk_left(self) -> None:
        while self._left and self._clock() >= self._walk_after:
            container_id = next(iter(self._left))
            del self._left[container_id]
            self._walk_one(container_id)

    def _walk(self, ids: set[str]) -> None:
        self._walk_left()
        now = self._clock()
        if now < self._walk_after:
            return
        due = [i for i in ids if now - self._walked.get(i, -WALK_PAUSE) >= WALK_PAUSE]
        if due:
            self._walk_one(min(due, key=lambda i: self._walked.get(i, 0.0)))

    def _walk_one(self, container_id: str) -> None:
        now = self._walked[container_id] = self._clock()
        try:
            usage = self._source.writable_usage(container_id)
        except (EngineError, OSError) as error:
            logger.debug("No usage of %s: %s", container_id[:12], error)
            return
        took = self._clock() - now
        if took > WALK_QUICK:
            self._walk_after = self._clock() + took * WALK_SHARE
        paths = [[str(path), int(size)] for path, size in usage.paths[:PATHS]]
        self._tell(container_id, {"writable_bytes": usage.total, "writable_paths": paths})

    def _tell(self, container_id: str, facts: dict[str, Any]) -> None:
        before = self._told.get(container_id, {})
        if any(matters(before.get(name), value) for name, value in facts.items()):
            told = {**before, **facts}
            self._write(container_id, told)
            self._told[container_id] = told


def sample_facts(sample: StatsSample, before: StatsSample | None) -> dict[str, Any]:
    """{"throttled_share" of the periods since `before`, "throttled_seconds" ever, "oom_kills", "memory_peak"}."""
    share = 0.0
    if before is not None and sample.cpu_periods > before.cpu_periods:
        throttled = max(0, sample.cpu_throttled_periods - before.cpu_throttled_periods)
        share = throttled / (sample.cpu_periods - before.cpu_periods)
    return {
        "throttled_share": round(share, 2),
        "throttled_seconds": round(sample.cpu_throttled_time / 1e9, 1),
        "oom_kills": sample.oom_kills,
        "memory_peak": sample.memory_peak,
    }


def matters(before: Any, now: Any) -> bool:
    """Whether a fact changed enough to write it: numbers by a tenth, everything else at all."""
    if isinstance(before, (int, float)) and isinstance(now, (int, float)):
        return (
            abs(now - before) > 0.1 * max(abs(before), abs(now))
            if before and now
            else now != before
        )
    return bool(before != now)
