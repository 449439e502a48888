"""Readings of containers: their groups' files stay open in between, and all links are read at once.

A hundred containers are read each second while somebody watches: what is here is kept quick.
"""

from __future__ import annotations

import logging
import resource
import threading
import time
from collections.abc import Callable, Collection

from runtime.cgroups import Cgroup
from runtime.cgroups.kept import KeptFiles
from runtime.cgroups.manager import CgroupManager
from runtime.engine.wiring import Wiring
from runtime.errors import EngineError, NotFound
from runtime.model.stats import StatsSample
from runtime.network import traffic
from runtime.store.bundles import BundleStore

logger = logging.getLogger(__name__)

_MOST = 8192  # files open at most, and no more than half of what the process may have
_UNUSED = 30.0  # seconds after which the files of a container that nobody reads are closed
# For more containers than that all links at once are cheaper than one after the other.
_FEW = 4


class _Gauge:
    """What is kept of a container between two readings."""

    def __init__(self, group: Cgroup) -> None:
        self.group = group
        self.files = KeptFiles(group.path)
        self.used = 0.0
        self.written = -1  # when the specification was that `links` are from, in nanoseconds
        self.links: tuple[str, ...] = ()  # host ends of its interfaces


class Gauges:
    """Thread-safe."""

    def __init__(self, *, bundles: BundleStore, cgroups: CgroupManager, wiring: Wiring) -> None:
        self._bundles = bundles
        self._cgroups = cgroups
        self._wiring = wiring
        self._lock = threading.Lock()
        self._gauges: dict[str, _Gauge] = {}
        self._open = 0  # files of all gauges
        self._most = min(_MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
        self._swept = time.monotonic()

    def read(self, container_id: str) -> StatsSample:
        """One reading. Raises NotFound when the container has no groups: it does not run."""
        return self._read(container_id, traffic.of)

    def read_all(self, ids: Collection[str]) -> list[StatsSample]:
        """One reading of each that has one; the others are left out."""
        count = traffic.of if len(ids) <= _FEW else traffic.Table().of
        found = []
        for container_id in ids:
            try:
                found.append(self._read(container_id, count))
            except (EngineError, OSError) as error:
                logger.debug("No stats of %s: %s", container_id[:12], error)
        return found

    def close(self) -> None:
        with self._lock:
            for container_id in list(self._gauges):
                self._drop(container_id)

    def _read(self, container_id: str, count: Callable[[str], traffic.Counts]) -> StatsSample:
        with self._lock:
            gauge = self._gauge(container_id)
            before = len(gauge.files)
            # One that has no place for its files reads them without keeping them.
            keeps = before or self._open < self._most
            counters = gauge.group.counters(gauge.files.read if keeps else None)
            self._open += len(gauge.files) - before
            if not counters.get("cpu_usage"):
                self._drop(container_id)
                if not gauge.group.exists():
                    raise NotFound(f"Container {container_id[:12]} does not run.", id=container_id)
            # The host's end receives what the container sends.
            tx, rx, tx_packets, rx_packets = self._carried(container_id, gauge, count)
        return StatsSample(
            id=container_id,
            time=time.time(),
            net_rx=rx,
            net_tx=tx,
            net_rx_packets=rx_packets,
            net_tx_packets=tx_packets,
            **counters,
        )

    def _carried(
        self, container_id: str, gauge: _Gauge, count: Callable[[str], traffic.Counts]
    ) -> traffic.Counts:
        """What the host's ends of its interfaces have."""
        written = self._bundles.written(container_id)
        if gauge.written != written:
            # Its networks change while it runs.
            gauge.links = self._wiring.links(self._bundles.spec(container_id))
            gauge.written = written
        if len(gauge.links) == 1:
            return count(gauge.links[0])
        counts = (traffic.NOTHING, *map(count, gauge.links))
        rx, tx, rx_packets, tx_packets = map(sum, zip(*counts, strict=True))
        return rx, tx, rx_packets, tx_packets

    def _gauge(self, container_id: str) -> _Gauge:
        now = time.monotonic()
        if now - self._swept >= _UNUSED:
            self._swept = now
            for unread in [i for i, one in self._gauges.items() if now - one.used >= _UNUSED]:
                self._drop(unread)
        gauge = self._gauges.get(container_id)
        if gauge is None:
            gauge = self._gauges[container_id] = _Gauge(self._cgroups.open(container_id))
        gauge.used = now
        return gauge

    def _drop(self, container_id: str) -> None:
        gauge = self._gauges.pop(container_id)
        self._open -= len(gauge.files)
        gauge.files.close()
