"""Samples at 1 Hz for whoever watches, taken once however many watch, and written as JSON once.

Rates come from two samples of the same container. Nothing is read while nobody watches.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any, Protocol

from runtime.errors import EngineError
from runtime.model.stats import HostSample, StatsSample

logger = logging.getLogger(__name__)

# Two samples further apart than this tell about the past, not about now.
LONGEST_SPAN = 10.0  # seconds

_STATS_FIELDS = tuple(f.name for f in fields(StatsSample))
_HOST_FIELDS = tuple(f.name for f in fields(HostSample))
_RATES = (
    ("net_rx_rate", "net_rx"),
    ("net_tx_rate", "net_tx"),
    ("block_read_rate", "block_read"),
    ("block_write_rate", "block_write"),
)

# json.dumps would make an encoder per sample.
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class StatsSource(Protocol):
    """The part of the engine that reads."""

    def stats(self, container_id: str) -> StatsSample: ...

    def host_sample(self) -> HostSample: ...


def stats_data(
    sample: StatsSample, before: StatsSample | None, longest: float = LONGEST_SPAN
) -> dict[str, Any]:
    """The fields of a StatsData: the sample's and what derives from it and the one before.

    `cpu_percent` is of one core (100 = one core busy), `memory_percent` of the limit (0 without one),
    `*_rate` bytes per second, `throttled_percent` the share of scheduling periods that were throttled.
    Rates are 0 when there is no sample within `longest` seconds before, or when a restart set the counters back.
    """
    data: dict[str, Any] = {name: getattr(sample, name) for name in _STATS_FIELDS}
    limit = sample.memory_limit
    data["memory_percent"] = round(100 * sample.memory / limit, 2) if limit else 0.0
    data["cpu_percent"] = data["throttled_percent"] = 0.0
    for rate, _ in _RATES:
        data[rate] = 0.0
    if before is None or not 0 < (span := sample.time - before.time) <= longest:
        return data
    busy = sample.cpu_usage - before.cpu_usage
    if busy < 0:
        return data
    data["cpu_percent"] = round(busy / span / 1e7, 2)
    for rate, counter in _RATES:
        grown = getattr(sample, counter) - getattr(before, counter)
        data[rate] = round(max(0, grown) / span, 1)
    periods = sample.cpu_periods - before.cpu_periods
    if periods > 0:
        throttled = sample.cpu_throttled_periods - before.cpu_throttled_periods
        data["throttled_percent"] = round(100 * max(0, throttled) / periods, 1)
    return data


def host_data(
    sample: HostSample, before: HostSample | None, longest: float = LONGEST_SPAN
) -> dict[str, Any]:
    """The host's fields and what derives; as for a container, 100 `cpu_percent` is one core busy."""
    data: dict[str, Any] = {name: getattr(sample, name) for name in _HOST_FIELDS}
    data["memory_used"] = sample.memory_total - sample.memory_available
    data["memory_percent"] = _percent(data["memory_used"], sample.memory_total)
    data["disk_used"] = sample.disk_total - sample.disk_free
    data["disk_percent"] = _percent(data["disk_used"], sample.disk_total)
    data["cpu_percent"] = data["net_rx_rate"] = data["net_tx_rate"] = 0.0
    if before is None or not 0 < (span := sample.time - before.time) <= longest:
        return data
    busy, total = sample.cpu_busy - before.cpu_busy, sample.cpu_total - before.cpu_total
    data["cpu_percent"] = _percent(max(0.0, busy) * sample.cores, total)
    data["net_rx_rate"] = round(max(0, sample.net_rx - before.net_rx) / span, 1)
    data["net_tx_rate"] = round(max(0, sample.net_tx - before.net_tx) / span, 1)
    return data


def _percent(part: float, whole: float) -> float:
    return round(100 * part / whole, 2) if whole else 0.0


class Sampler:
    """Reads samples and keeps the latest of each container, to derive rates from. Not thread-safe.

    The first sample of somebody's looking derives from what `earlier` and `earlier_of_host` know.
    """

    def __init__(
        self,
        source: StatsSource,
        clock: Callable[[], float] = time.time,
        *,
        earlier: Callable[[str], StatsSample | None] = lambda _: None,
        earlier_of_host: Callable[[], HostSample | None] = lambda: None,
    ) -> None:
        self._source = source
        self._clock = clock
        self._earlier = earlier
        self._earlier_of_host = earlier_of_host
        self._last: dict[str, StatsSample] = {}
        self._last_host: HostSample | None = None

    def sample(self, ids: Iterable[str]) -> dict[str, str]:
        """One reading of each container that has one, as JSON objects by id.

        A container that is gone or cannot be read is left out: the next reconcile tells why.
        """
        encoded: dict[str, str] = {}
        for container_id in ids:
            try:
                now = self._source.stats(container_id)
            except (EngineError, OSError) as error:
                logger.debug("No stats of %s: %s", container_id[:12], error)
                self._last.pop(container_id, None)
                continue
            before = self._last.get(container_id)
            if before is None or now.time - before.time > LONGEST_SPAN:
                before = self._earlier(container_id)
            data = stats_data(now, before)
            self._last[container_id] = now
            encoded[container_id] = _encode(data)
        self._forget()
        return encoded

    def has_recent(self, container_id: str) -> bool:
        """Whether the next sample of this container will have rates."""
        last = self._last.get(container_id)
        return last is not None and self._clock() - last.time <= LONGEST_SPAN

    def host(self) -> str:
        """One reading of the host, as a JSON object. Raises EngineError or OSError."""
        now = self._source.host_sample()
        before = self._last_host
        if before is None or now.time - before.time > LONGEST_SPAN:
            before = self._earlier_of_host()
        data = host_data(now, before)
        self._last_host = now
        return _encode(data)

    def _forget(self) -> None:
        """Drop samples that are too old to derive from."""
        oldest = self._clock() - LONGEST_SPAN
        stale = [i for i, sample in self._last.items() if sample.time < oldest]
        for container_id in stale:
            del self._last[container_id]
