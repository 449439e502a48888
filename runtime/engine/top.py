"""The processes of a container, as `ps` would show them from inside."""

from __future__ import annotations

import os

from runtime.cgroups.manager import CgroupManager
from runtime.engine.observe import Observer
from runtime.errors import BadState, error_context
from runtime.model.stats import ProcessRow

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MAX_COMMAND = 4096  # characters shown: a container may make them megabytes


def processes(container_id: str, cgroups: CgroupManager, observer: Observer) -> list[ProcessRow]:
    """Those of its groups, first process first. Raises NotFound, BadState unless it is active."""
    with error_context("top", id=container_id):
        observed = observer.observe(container_id)
        if not observed.status.is_active:
            raise BadState("look into", observed.status, observed.status.actions)
        boot = _boot_time()
        found = (_row(pid, boot) for pid in cgroups.open(container_id).pids())
        return sorted((row for row in found if row is not None), key=lambda row: row.pid)


def _row(pid: int, boot: float) -> ProcessRow | None:
    """None for one that has just ended."""
    try:
        stat = _text(pid, "stat")
        status = dict(
            line.split(":\t", 1) for line in _text(pid, "status").splitlines() if ":\t" in line
        )
        words = _text(pid, "cmdline").rstrip("\0").split("\0")
        user = _inside(int(status["Uid"].split()[1]), _text(pid, "uid_map"))
    except (OSError, KeyError):
        return None
    name = stat[stat.index("(") + 1 : stat.rindex(")")]
    fields = stat[stat.rindex(")") + 2 :].split()
    return ProcessRow(
        pid=_container_s(status.get("NSpid", str(pid))),
        host_pid=pid,
        parent=int(fields[1]),
        user=user,
        state=fields[0],
        cpu=(int(fields[11]) + int(fields[12])) / _TICKS,
        memory=int(fields[21]) * _PAGE,
        started_at=boot + int(fields[19]) / _TICKS,
        command=" ".join(words)[:_MAX_COMMAND] if words != [""] else f"[{name}]",
    )


def pid_inside(host_pid: int) -> int:
    """The pid that a process has in its container; 0 when it has ended."""
    try:
        lines = _text(host_pid, "status").splitlines()
    except OSError:
        return 0
    return next((_container_s(li[6:]) for li in lines if li.startswith("NSpid:")), host_pid)


def _container_s(pids: str) -> int:
    """Of the pids of one process: ours comes first, then the container's; those below belong to namespaces
    that it has made itself.
    """
    levels = pids.split()
    return int(levels[min(1, len(levels) - 1)])


def _text(pid: int, name: str) -> str:
    with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as file:
        return file.read()


def _inside(uid: int, uid_map: str) -> int:
    """The id that the user namespace has for one of ours; ours when it has none."""
    for line in uid_map.splitlines():
        inside, outside, count = map(int, line.split())
        if outside <= uid < outside + count:
            return inside + uid - outside
    return uid


def _boot_time() -> float:
    with open("/proc/stat", encoding="ascii") as file:
        for line in file:
            if line.startswith("btime "):
                return float(line.split()[1])
    return 0.0
