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
        data = stats_data(sample, self._last.get(container_id), _LONGEST_STEP)
        self._last[container_id] = sample
        with self._lock:
            self._containers.setdefault(container_id, _Past()).add(data, _OF_CONTAINER)

    def look_at_host(self, sample: HostSample) -> None:
        data = host_data(sample, self._last_host, _LONGEST_STEP)
        self._last_host = sample
        with self._lock:
            self._host.add(data, _OF_HOST)

    def forget(self) -> None:
        """Drop what ended longer ago than readings are kept."""
        oldest = self._clock() - SPAN
        with self._lock:
            for container_id, past in list(self._containers.items()):
                if past.readings[-1][0] < oldest:
                    del self._containers[container_id]
                    self._last.pop(container_id, None)

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
