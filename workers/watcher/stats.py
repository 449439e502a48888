"""Samples at 1 Hz for whoever watches, taken once however many watch, and written as JSON once.

Rates come from two samples of the same container. Nothing is read while nobody watches.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection
from dataclasses import fields
from operator import attrgetter
from typing import Any, Protocol

from runtime.model.stats import HostSample, StatsSample

# Two samples further apart than this tell about the past, not about now.
LONGEST_SPAN = 10.0  # seconds

_STATS_FIELDS = tuple(f.name for f in fields(StatsSample))
_HOST_FIELDS = tuple(f.name for f in fields(HostSample))
_DERIVED = (
    "memory_percent",
    "cpu_percent",
    "throttled_percent",
    "net_rx_rate",
    "net_tx_rate",
    "block_read_rate",
    "block_write_rate",
)
_NUMBERS = tuple(name for name in _STATS_FIELDS if name not in ("id", "pressure"))
_values = attrgetter(*_STATS_FIELDS)
_numbers = attrgetter(*_NUMBERS)
# JSON writes numbers as Python does.
_TEMPLATE = (
    '{"id":"%s",' + "".join(f'"{name}":%r,' for name in (*_NUMBERS, *_DERIVED)) + '"pressure":%s}'
)

# json.dumps would make an encoder per sample.
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class StatsSource(Protocol):
    """The part of the engine that reads."""

    def stats_of(self, ids: Collection[str]) -> list[StatsSample]: ...

    def host_sample(self) -> HostSample: ...


def stats_data(
    sample: StatsSample, before: StatsSample | None, longest: float = LONGEST_SPAN
) -> dict[str, Any]:
    """The fields of a StatsData: the sample's and what derives from it and the one before.

    `cpu_percent` is of one core (100 = one core busy), `memory_percent` of the limit (0 without one),
    `*_rate` bytes per second, `throttled_percent` the share of scheduling periods that were throttled.
    Rates are 0 when there is no sample within `longest` seconds before, or when a restart set the counters back.
    """
    return {
        **dict(zip(_STATS_FIELDS, _values(sample), strict=True)),
        **dict(zip(_DERIVED, _derived(sample, before, longest), strict=True)),
    }


def stats_text(sample: StatsSample, before: StatsSample | None) -> str:
    """`stats_data` as JSON, in half the time: each second of each container somebody waits for it."""
    pressure = _encode(sample.pressure) if sample.pressure else "{}"
    return _TEMPLATE % (
        sample.id,
        *_numbers(sample),
        *_derived(sample, before, LONGEST_SPAN),
        pressure,
    )


def _derived(
    sample: StatsSample, before: StatsSample | None, longest: float
) -> tuple[float, float, float, float, float, float, float]:
    """In the order of _DERIVED."""
    limit = sample.memory_limit
    memory = round(100 * sample.memory / limit, 2) if limit else 0.0
    if (
        before is None
        or not 0 < (span := sample.time - before.time) <= longest
        or (busy := sample.cpu_usage - before.cpu_usage) < 0
    ):
        return memory, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    throttled = 0.0
    if (periods := sample.cpu_periods - before.cpu_periods) > 0:
        grown = sample.cpu_throttled_periods - before.cpu_throttled_periods
        throttled = round(100 * max(0, grown) / periods, 1)
    return (
        memory,
        round(busy / span / 1e7, 2),
        throttled,
        _rate(sample.net_rx - before.net_rx, span),
        _rate(sample.net_tx - before.net_tx, span),
        _rate(sample.block_read - before.block_read, span),
        _rate(sample.block_write - before.block_write, span),
    )


def _rate(grown: int, span: float) -> float:
    return round(grown / span, 1) if grown > 0 else 0.0


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

    def sample(self, ids: Collection[str]) -> dict[str, str]:
        """One reading of each container that has one, as JSON objects by id.

        A container that is gone or cannot be read is left out: the next reconcile tells why.
        """
        encoded: dict[str, str] = {}
        for now in self._source.stats_of(ids):
            container_id = now.id
            before = self._last.get(container_id)
            if before is None or now.time - before.time > LONGEST_SPAN:
                before = self._earlier(container_id)
            encoded[container_id] = stats_text(now, before)
            self._last[container_id] = now
        if len(encoded) < len(ids):
            for container_id in ids:
                if container_id not in encoded:
                    self._last.pop(container_id, None)
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
