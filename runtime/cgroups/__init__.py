"""Control groups: limits, counters, freezing and killing, on v1 (and hybrid) hosts and on unified v2.

`open_cgroup` is all a shim needs, and imports no more than `os`. The engine uses
`runtime.cgroups.manager`. One container's groups lie at
`<mount point of each controller>/<Config.cgroup>/containers/<first 32 digits of its id>`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

from runtime.cgroups.v1 import LegacyCgroup
from runtime.cgroups.v2 import REFUSALS, UnifiedCgroup

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Cgroup(Protocol):
    """One container's groups, whatever the version. OSError leaves every method as KernelFailure.

    `paths` maps each controller to its directory; on v2 all map to the same one.
    """

    version: str
    paths: dict[str, str]

    def enter(self) -> None:
        """Move the calling, single-threaded process in. The quick way: see v1.py for why."""

    def doors(self) -> list[int]:
        """Descriptors for `walk_in`, by which a process that cannot open the groups' files moves in."""

    def add(self, pid: int) -> None:
        """Move another process in, with all its threads."""

    def pids(self) -> list[int]:
        """Every process inside, in groups below as well."""

    def kill(self) -> None:
        """SIGKILL everything inside, whatever it forks meanwhile."""

    def freeze(self) -> None:
        """Stop everything inside; return when it has stopped."""

    def thaw(self) -> None: ...

    def frozen(self) -> bool: ...

    def oom_kills(self) -> int:
        """Processes the kernel has killed here for want of memory, since the group was made."""

    def remove(self) -> None:
        """Remove the groups and those below. Nothing is missing when there are none."""

    def renew(self) -> None:
        """Between two lives in the same groups: take away what the processes of the first made of them."""

    def exists(self) -> bool: ...

    def counters(self, read: Callable[[str], str] | None = None) -> dict[str, Any]:
        """Fields of StatsSample that the groups know. `read` takes a file's name, and answers "" for one that is not
        there; it may keep its files open (kept.py).
        """

    def path(self, file: str) -> str:
        """Where a control file is, "" when this host has no controller of that name."""

    def read(self, controller: str, file: str) -> str:
        """Content of one file, stripped. Raises OSError."""

    def write(self, controller: str, file: str, value: str) -> None:
        """Raises OSError."""


def walk_in(doors: list[int], version: str) -> None:
    """Move the calling, single-threaded process through the doors of groups of the `version`, and close them. Raises
    OSError.

    The kernel asks what whoever opened them may do, not what we may (cgroup_attach_permissions).
    """
    refusal: OSError | None = None
    inside = False
    for door in doors:
        try:
            # On v1 each leads into another hierarchy.
            if version == "v1" or not inside:
                os.write(door, b"0")
                inside = True
        except OSError as error:
            if version == "v1" or error.errno not in REFUSALS:
                raise
            refusal = error
        finally:
            os.close(door)
    if refusal is not None and not inside:
        raise refusal


def open_cgroup(plan: Mapping[str, Any]) -> Cgroup:
    """The groups a plan names: {"version": "v1"|"v2", "paths": {controller: directory}}."""
    if plan["version"] == "v2":
        return UnifiedCgroup(dict(plan["paths"]))
    return LegacyCgroup(dict(plan["paths"]))


__all__ = ["Cgroup", "open_cgroup", "walk_in"]
