"""How large volumes are: measured now and then, a part at a time, so that no disk is busy with it for long.

A volume that a running container mounts is measured each few minutes, and once more when one has ended; what
nobody mounts changes only by files that are copied into it, and is looked at each hour. A volume of many files, whose walk
takes long, is measured less often.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from runtime.errors import EngineError

logger = logging.getLogger(__name__)

BUDGET = 0.2  # seconds of walking in a round, which comes each ten seconds
PAUSE = 300.0  # seconds between two measurements of a volume in use
UNUSED_PAUSE = 3600.0  # of another
SHARE = 100  # and at least this many times as long as a measurement took


class Walk(Protocol):
    """runtime.engine.volumes.Measuring."""

    size: int

    def go_on(self, seconds: float) -> bool: ...


class VolumeSource(Protocol):
    def names(self) -> list[str]: ...

    def measuring(self, name: str) -> Walk: ...


@dataclass(slots=True)
class _Known:
    """When a volume was last measured, and how long that took, in seconds."""

    at: float
    took: float


class VolumeSizes:
    """`mounted` tells which volumes these containers mount; `write` takes a volume's name and bytes."""

    def __init__(
        self,
        source: VolumeSource,
        *,
        mounted: Callable[[Collection[str]], set[str]],
        write: Callable[[str, int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._mounted = mounted
        self._write = write
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._used: set[str] = set()
        self._changed: set[str] = set()  # by containers that have ended
        self._name = ""  # of the one that is being measured
        self._walk: Walk | None = None
        self._took = 0.0

    def ended(self, container_id: str) -> None:
        """What it has written last, or in a short life, stays written. Raises DatabaseError."""
        self._changed |= self._mounted([container_id])

    def round(self, active: Collection[str]) -> None:
        """Go on for BUDGET seconds, if there is something to measure. Raises DatabaseError."""
        names = set(self._source.names())
        for gone in self._known.keys() - names:
            del self._known[gone]
        self._changed &= names
        if not names:
            return
        self._used = self._mounted(active)
        until = self._clock() + BUDGET
        while (now := self._clock()) < until and (self._walk or self._begin(names, now)):
            self._go_on(until - now)

    def _begin(self, names: set[str], now: float) -> bool:
        due = [name for name in names if self._is_due(name, now)]
        if not due:
            return False
        # Those not measured yet first.
        self._name = min(due, key=lambda name: self._known[name].at if name in self._known else 0.0)
        self._known[self._name] = _Known(now, 0.0)
        self._changed.discard(self._name)
        self._took = 0.0
        try:
            self._walk = self._source.measuring(self._name)
        except (EngineError, OSError) as error:
            logger.debug("Volume %s is not measured: %s", self._name, error)
        return True

    def _is_due(self, name: str, now: float) -> bool:
        known = self._known.get(name)
        if known is None:
            return True
        pause = PAUSE if name in self._used else UNUSED_PAUSE
        rest = known.took * SHARE
        return now - known.at >= (rest if name in self._changed else max(rest, pause))

    def _go_on(self, seconds: float) -> None:
        if self._walk is None:
            return
        walk, began = self._walk, self._clock()
        try:
            whole = walk.go_on(seconds)
        except OSError as error:
            logger.debug("Volume %s is not measured: %s", self._name, error)
            self._walk = None
            return
        now = self._clock()
        self._took += now - began
        if whole:
            self._walk = None
            self._known[self._name] = _Known(now, self._took)
            self._write(self._name, walk.size)
