"""Readings of the host, and what it is."""

from __future__ import annotations

import os
import platform
import time
from typing import Any

from runtime.cgroups.manager import CgroupManager
from runtime.engine import userns
from runtime.engine.planning import boot_id
from runtime.kernel import capabilities
from runtime.model.stats import HostSample
from runtime.store.paths import Config

_TICKS = os.sysconf("SC_CLK_TCK")


class Meter:
    """The host's. Containers are read by `Gauges`."""

    def __init__(self, config: Config, *, cgroups: CgroupManager) -> None:
        self._config = config
        self._cgroups = cgroups

    def host(self) -> HostSample:
        """One reading of the whole machine."""
        busy, total = _cpu_times()
        memory = _meminfo()
        disk = os.statvfs(self._config.root if self._config.root.exists() else "/")
        received, sent = _host_network()
        return HostSample(
            time=time.time(),
            cpu_busy=busy,
            cpu_total=total,
            cores=os.cpu_count() or 1,
            memory_total=memory.get("MemTotal", 0),
            memory_available=memory.get("MemAvailable", 0),
            disk_total=disk.f_blocks * disk.f_frsize,
            disk_free=disk.f_bavail * disk.f_frsize,
            net_rx=received,
            net_tx=sent,
            load1=os.getloadavg()[0],
        )

    def facts(self) -> dict[str, Any]:
        """What this host is and can do: JSON for the host's page and for errors that explain."""
        memory = _meminfo()
        held = capabilities.bounding()
        return {
            "hostname": platform.node(),
            "kernel": platform.release(),
            "architecture": platform.machine(),
            "operating_system": _os_name(),
            "boot_id": boot_id(),
            "cores": os.cpu_count() or 1,
            "memory_total": memory.get("MemTotal", 0),
            "swap_total": memory.get("SwapTotal", 0),
            "cgroup": self._cgroups.facts(),
            "overlay": "overlay" in _filesystems(),
            "seccomp": os.path.exists("/proc/sys/kernel/seccomp/actions_avail"),
            "user_namespaces": userns.facts(self._config),
            "apparmor": os.path.exists("/sys/kernel/security/apparmor/profiles"),
            "missing_capabilities": [
                n for n, bit in capabilities.NUMBERS.items() if not held >> bit & 1
            ],
            "root": str(self._config.root),
        }


def _number(path: str) -> int:
    """The number in a small file; 0 when it is not there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return int(os.read(fd, 32))
    except (OSError, ValueError):
        return 0
    finally:
        os.close(fd)


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []


def _cpu_times() -> tuple[float, float]:
    """(busy, total) seconds over all cores: the first line of /proc/stat (proc(5))."""
    for line in _lines("/proc/stat"):
        if line.startswith("cpu "):
            # guest times are contained in user and nice already.
            ticks = [int(w) for w in line.split()[1:9]]
            idle = ticks[3] + ticks[4]
            return (sum(ticks) - idle) / _TICKS, sum(ticks) / _TICKS
    return 0.0, 0.0


def _meminfo() -> dict[str, int]:
    result = {}
    for line in _lines("/proc/meminfo"):
        name, _, rest = line.partition(":")
        words = rest.split()
        result[name] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    return result


def _host_network() -> tuple[int, int]:
    """(received, sent) bytes over the links with hardware or a hypervisor behind them."""
    received = sent = 0
    for link in os.listdir("/sys/class/net"):
        if os.path.exists(f"/sys/class/net/{link}/device"):
            received += _number(f"/sys/class/net/{link}/statistics/rx_bytes")
            sent += _number(f"/sys/class/net/{link}/statistics/tx_bytes")
    return received, sent


def _os_name() -> str:
    for line in _lines("/etc/os-release"):
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return platform.system()


def _filesystems() -> set[str]:
    return {line.split()[-1] for line in _lines("/proc/filesystems") if line.strip()}
