"""The group in which shims live: never their container's, never the service's that started them.

A service manager that stops the platform kills what is in the platform's group; shims and containers
must go on, so the launcher moves itself here once, and its children are born here.
"""

from __future__ import annotations

from runtime.cgroups import files
from runtime.cgroups.detect import Hierarchies, detect


def enter_shims(cgroup: str, hierarchies: Hierarchies | None = None) -> list[str]:
    """Move the calling process into `<root>/<cgroup>/shims` of every hierarchy; return where it failed.

    Named v1 hierarchies and hybrid's v2 one are included: service managers track processes there.
    Standard library only and cheap, for the launcher.
    """
    found = hierarchies or detect()
    failed = []
    for root in dict.fromkeys([*found.roots.values(), *([found.unified] if found.unified else [])]):
        parent = f"{root}/{cgroup}"
        try:
            files.make(parent)
            files.make(f"{parent}/shims")
            if root == found.roots.get("cpuset") and found.version == "v1":
                initialise_cpuset(root, parent, f"{parent}/shims")
            files.write(f"{parent}/shims/cgroup.procs", "0")
        except OSError:
            failed.append(root)
    return failed


def initialise_cpuset(root: str, *directories: str) -> None:
    """A v1 cpuset takes no process before it has CPUs and memory nodes: hand the parent's down."""
    parent = root
    for directory in directories:
        for name in ("cpuset.cpus", "cpuset.mems"):
            if not files.read(f"{directory}/{name}").strip():
                files.write(f"{directory}/{name}", files.read(f"{parent}/{name}").strip())
        parent = directory
