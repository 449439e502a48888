"""The last minutes of every running container and of the host: a page that is opened begins with them.

Readings come from the advisor's rounds, some seconds apart, and cost nothing more. They are kept in memory: a
watcher that starts anew begins anew.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from runtime.model.stats import HostSample, StatsSample
from workers.watcher.stats import host_data, stats_data

SPAN = 300.0  # seconds kept, also of containers that have ended
RECENT = 60.0  # seconds told of each when everything is asked for
# Between two readings further apart something was not running.
_LONGEST_STEP = 30.0

_OF_CONTAINER = (
    "time",
    "cpu_percent",
    "cpu_limit",
    "cpu_throttled_time",
    "throttled_percent",
    "memory",
    "memory_cache",
    "memory_limit",
    "oom_kills",
    "pids",
    "pids_limit",
    "pressure",
    "net_rx_rate",
    "net_tx_rate",
    "block_read_rate",
    "block_write_rate",
)
_OF_HOST = (
    "time",
    "cores",
    "cpu_percent",
    "memory_total",
    "memory_available",
    "disk_total",
    "disk_free",
    "net_rx_rate",
    "net_tx_rate",
)


class _Past:
    """One object's readings, oldest first, as JSON: text takes a quarter of a dict's memory."""

    def __init__(self) -> None:
        self.readings: deque[tuple[float, str]] = deque()

    def add(self, data: dict[str, Any], names: tuple[str, ...]) -> None:
        now = data["time"]
        kept = {name: data[name] for name in names}
        self.readings.append((now, json.dumps(kept, separators=(",", ":"))))
        while self.readings[0][0] < now - SPAN:
            self.readings.popleft()

    def text(self, since: float) -> str:
        return f"[{','.join(text for at, text in self.readings if at >= since)}]"


class History:
    """Fed by one thread, read by others."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._containers: dict[str, _Past] = {}
        self._last: dict[str, StatsSample] = {}
        self._host = _Past()
        self._last_host: HostSample | None = None

    def look(self, container_id: str, sample: StatsSample) -> None:
        """Keep it, unless nothing came shortly before that its rates could derive from."""
        with self._lock:
            before = self._last.get(container_id)
            self._last[container_id] = sample
            if before is None or sample.time - before.time > _LONGEST_STEP:
                return
            data = stats_data(sample, before, _LONGEST_STEP)
            self._containers.setdefault(container_id, _Past()).add(data, _OF_CONTAINER)

    def look_at_host(self, sample: HostSample) -> None:
        """As `look`."""
        with self._lock:
            before, self._last_host = self._last_host, sample
            if before is None or sample.time - before.time > _LONGEST_STEP:
                return
            self._host.add(host_data(sample, before, _LONGEST_STEP), _OF_HOST)

    def last(self, container_id: str) -> StatsSample | None:
        """The latest reading of a container."""
        with self._lock:
            return self._last.get(container_id)

    def last_of_host(self) -> HostSample | None:
        with self._lock:
            return self._last_host

    def forget(self) -> None:
        """Drop what ended longer ago than readings are kept."""
        oldest = self._clock() - SPAN
        with self._lock:
            for container_id, sample in list(self._last.items()):
                if sample.time < oldest:
                    del self._last[container_id]
                    self._containers.pop(container_id, None)

    def container(self, container_id: str) -> str:
        """A JSON array of its readings."""
        with self._lock:
            past = self._containers.get(container_id)
            return past.text(0) if past else "[]"

    def host(self) -> str:
        """A JSON array of the host's readings."""
        with self._lock:
            return self._host.text(0)

    def everything(self) -> str:
        """A JSON object: of each container the array of its readings of the last minute."""
        since = self._clock() - RECENT
        with self._lock:
            texts = {i: past.text(since) for i, past in self._containers.items()}
        told = (f'"{i}":{text}' for i, text in texts.items() if text != "[]")
        return f"{{{','.join(told)}}}"
