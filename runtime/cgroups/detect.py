"""Which hierarchies this host has, and where: from /proc/self/mountinfo, never from assumptions.

Our own placement does not matter: groups are made below the mount points, not below our own group.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from runtime.cgroups import files
from runtime.errors import Unsupported

# Controllers of v1 that a container is put into. cpuset only when asked for (see v1.py).
V1_CONTROLLERS = (
    "cpu", "cpuacct", "memory", "pids", "devices", "freezer", "blkio", "hugetlb", "cpuset"
)  # fmt: skip


class Hierarchies(NamedTuple):
    """`roots` maps a controller to its mount point; named v1 hierarchies appear as "name=…"."""

    version: str  # "v1" (hybrid included) or "v2"
    roots: dict[str, str]
    unified: str  # mount point of the v2 hierarchy, "" when there is none
    swap: bool  # memory and swap can be limited together

    def has(self, controller: str) -> bool:
        return controller in self.roots


def detect(mountinfo: str | None = None) -> Hierarchies:
    """Read the mount table. Raises Unsupported when no usable hierarchy is mounted.

    v2 counts as unified only when it holds the memory or cpu controller: hybrid hosts mount an empty
    one beside v1.
    """
    text = files.read("/proc/self/mountinfo") if mountinfo is None else mountinfo
    legacy: dict[str, str] = {}
    unified = ""
    for line in text.splitlines():
        head, _, tail = line.partition(" - ")
        point = _unescape(head.split()[4])
        kind, _, rest = tail.partition(" ")
        options = rest.split()[-1].split(",") if rest else []
        if kind == "cgroup2":
            unified = unified or point
        elif kind == "cgroup":
            for option in options:
                if option in V1_CONTROLLERS or option.startswith("name="):
                    legacy.setdefault(option, point)
    if unified:
        available = _words(os.path.join(unified, "cgroup.controllers"))
        if {"memory", "cpu", "pids"} & available:
            roots = dict.fromkeys(sorted(available), unified)
            # Not every kernel with memory has swap; only a group below the root has the file.
            return Hierarchies("v2", roots, unified, "memory" in available)
    if not any(not name.startswith("name=") for name in legacy):
        raise Unsupported(
            "Running containers",
            "a mounted cgroup hierarchy",
            hint="Mount cgroup2 on /sys/fs/cgroup.",
        )
    memory = legacy.get("memory", "")
    swap = bool(memory) and os.path.exists(f"{memory}/memory.memsw.limit_in_bytes")
    return Hierarchies("v1", legacy, unified, swap)


def _words(path: str) -> set[str]:
    try:
        return set(files.read(path).split())
    except OSError:
        return set()


def _unescape(path: str) -> str:
    """mountinfo writes blanks and backslashes as octal."""
    if "\\" not in path:
        return path
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, char)
    return path
