"""Readings of a container's or host's use of resources."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class StatsSample:
    """One timestamped reading of one container. Counters are cumulative since its start.

    Nanoseconds for CPU, bytes for memory, network and block I/O. Rates are the reader's to derive from
    two samples. `memory` is what counts against the limit without reclaimable file cache, as
    `docker stats` shows it.
    """

    id: str
    time: float  # Unix seconds
    cpu_usage: int = 0  # ns
    cpu_limit: float = 0.0  # cores; 0 = no limit
    cpu_periods: int = 0
    cpu_throttled_periods: int = 0
    cpu_throttled_time: int = 0  # ns
    memory: int = 0
    memory_limit: int = 0  # 0 = no limit
    memory_cache: int = 0
    memory_peak: int = 0
    swap: int = 0
    oom_kills: int = 0
    pids: int = 0
    pids_limit: int = 0  # 0 = no limit
    net_rx: int = 0
    net_tx: int = 0
    net_rx_packets: int = 0
    net_tx_packets: int = 0
    block_read: int = 0
    block_write: int = 0
    pressure: dict[str, float] = field(
        default_factory=dict
    )  # "cpu.some.avg10" -> percent, v2 with PSI


@dataclass(frozen=True, slots=True)
class StatsData(StatsSample):
    """A sample, and what derives from it and the one before: 100 `cpu_percent` is one core busy, rates are bytes per
    second. Without one before they are 0.
    """

    cpu_percent: float = 0.0
    memory_percent: float = 0.0  # of the limit; 0 without one
    throttled_percent: float = 0.0  # of the scheduling periods
    net_rx_rate: float = 0.0
    net_tx_rate: float = 0.0
    block_read_rate: float = 0.0
    block_write_rate: float = 0.0


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """One process of a container."""

    pid: int  # as the container sees it
    host_pid: int
    parent: int  # as the host sees it
    user: int  # uid inside
    state: str  # R, S, D, Z, T, I: proc(5)
    cpu: float  # seconds of processor time so far
    memory: int  # bytes resident
    started_at: float  # Unix seconds
    command: str


@dataclass(frozen=True, slots=True)
class HostSample:
    """One reading of the host. CPU in seconds of busy and total time over all cores."""

    time: float
    cpu_busy: float
    cpu_total: float
    cores: int
    memory_total: int
    memory_available: int
    disk_total: int  # of the data root's file system
    disk_free: int
    net_rx: int
    net_tx: int
    load1: float
