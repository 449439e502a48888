"""Every process of an instance, as /proc shows them: the platform's, monitors, and what runs in containers."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from runtime.store.paths import Config


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    name: str
    command: str
    state: str  # R, S, D, Z …
    cgroups: str  # /proc/<pid>/cgroup
    mount_namespace: str  # "mnt:[…]"
    network_namespace: str

    @property
    def is_zombie(self) -> bool:
        return self.state == "Z"

    @property
    def waits_for_init(self) -> bool:
        """It has ended, as has its parent; the host's init collects it when it pleases."""
        return self.is_zombie and self.parent == 1

    @property
    def label(self) -> str:
        zombie = " (zombie)" if self.is_zombie else ""
        return f"{self.pid} {self.name}{zombie}: {self.command} of {self.parent}"

    def network_namespaces(self) -> Iterator[str]:
        """Those that it is in, or holds by a descriptor."""
        if self.network_namespace:
            yield self.network_namespace
        try:
            descriptors = os.listdir(f"/proc/{self.pid}/fd")
        except OSError:
            return
        for fd in descriptors:
            try:
                target = os.readlink(f"/proc/{self.pid}/fd/{fd}")
            except OSError:
                continue
            if target.startswith("net:["):
                yield target


def processes_of(config: Config, platform: Collection[int] = ()) -> list[Process]:
    """In the instance's groups, with its root in the environment, or a child of such a one.

    `platform` are pids that are known to be its: Redis writes its title over its environment.
    """
    everything = [
        p for p in map(read_process, filter(str.isdigit, os.listdir("/proc"))) if p is not None
    ]
    needle = f"SLIPWAY_ROOT={config.root}\0".encode()
    own = os.getpid()
    mine = {
        p.pid
        for p in everything
        if p.pid != own and (f"/{config.cgroup}/" in p.cgroups or needle in _environment(p.pid))
    }
    mine |= {p.pid for p in everything if p.pid in platform or (p.is_zombie and p.parent in mine)}
    return [p for p in everything if p.pid in mine]


def read_process(pid: str) -> Process | None:
    """None when it has gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        cgroups = Path(f"/proc/{pid}/cgroup").read_text()
        command = Path(f"/proc/{pid}/cmdline").read_bytes()[:80].replace(b"\0", b" ")
    except OSError:
        return None
    state, parent = stat[stat.rindex(")") + 2 :].split()[:2]
    return Process(
        pid=int(pid),
        parent=int(parent),
        name=stat[stat.index("(") + 1 : stat.rindex(")")],
        command=command.decode(errors="replace").strip(),
        state=state,
        cgroups=cgroups,
        mount_namespace=_link(f"/proc/{pid}/ns/mnt"),
        network_namespace=_link(f"/proc/{pid}/ns/net"),
    )


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
