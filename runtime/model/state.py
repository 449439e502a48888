"""What is: a container's observed status, its exits, and which actions a status allows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Status(StrEnum):
    """Observed status. "starting", "stopping", "removing" are not here: they derive from a live operation."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    EXITED = "exited"
    DEAD = "dead"
    UNKNOWN = "unknown"

    @property
    def is_active(self) -> bool:
        """A shim is (or should be) alive."""
        return self in _ACTIVE

    def allows(self, action: Action) -> bool:
        return self in _ALLOWED[action]

    @property
    def actions(self) -> tuple[Action, ...]:
        """Every action this status allows, in the order the screens show them."""
        return tuple(a for a, statuses in _ALLOWED.items() if self in statuses)


Action = Literal[
    "start",
    "stop",
    "restart",
    "kill",
    "pause",
    "unpause",
    "exec",
    "attach",
    "update",
    "commit",
    "remove",
]

_ACTIVE = frozenset({Status.RUNNING, Status.PAUSED, Status.RESTARTING})
_DOWN = frozenset({Status.CREATED, Status.EXITED})
_ALLOWED: dict[Action, frozenset[Status]] = {
    "start": _DOWN,
    "stop": _ACTIVE,
    "restart": _ACTIVE | _DOWN,
    "kill": _ACTIVE,
    "pause": frozenset({Status.RUNNING}),
    "unpause": frozenset({Status.PAUSED}),
    "exec": frozenset({Status.RUNNING}),
    "attach": frozenset({Status.RUNNING}),
    "update": _ACTIVE | _DOWN,
    "commit": frozenset({Status.RUNNING, Status.PAUSED}) | _DOWN,
    # Without force an active container is not removed; with force it is killed first.
    "remove": _DOWN | {Status.DEAD, Status.UNKNOWN},
}

ExitReason = Literal[
    "exited",  # the process ended by itself
    "signaled",  # ended by a signal
    "oom_killed",  # the kernel killed it over its memory limit
    "stopped",  # ended because somebody asked (stop or kill)
    "shim_lost",  # its monitor died; exit code unknown
    "reboot",  # the host went down
    "start_failed",  # init never executed
]


@dataclass(frozen=True, slots=True)
class ExitRecord:
    """One end of a container's process, appended to the bundle's `exits.jsonl`.

    `code` is what a shell would show: the process's status, or 128 + signal; None when unknown.
    Times are Unix seconds.
    """

    code: int | None
    reason: ExitReason
    started_at: float
    finished_at: float
    signal: int | None = None
    oom_killed: bool = False
    restart_count: int = 0
    error: str = ""  # sentence for people, when there is one


@dataclass(frozen=True, slots=True)
class HealthState:
    status: Literal["none", "starting", "healthy", "unhealthy"] = "none"
    failing_streak: int = 0
    log: tuple[dict[str, str | int | float], ...] = ()  # last five: start, end, exit_code, output


@dataclass(frozen=True, slots=True)
class RunState:
    """`state.json` in the container's run directory; its shim is the only writer while it lives.

    A pid is an identity only together with its start time (field 22 of /proc/<pid>/stat, clock ticks
    since boot), and both only under the same boot id.
    """

    status: Status
    boot_id: str
    shim_pid: int = 0
    shim_start_time: int = 0
    pid: int = 0  # init, in the host's pid namespace; 0 when not running
    start_time: int = 0
    started_at: float = 0.0
    finished_at: float = 0.0
    restart_count: int = 0
    next_restart_at: float = 0.0  # when restarting
    exit: ExitRecord | None = None  # the latest
    health: HealthState = HealthState()
    user_stopped: bool = (
        False  # somebody asked for the stop: "unless-stopped" holds across a reboot
    )
    version: int = 1


@dataclass(frozen=True, slots=True)
class Observed:
    """One container as reconcile() sees it: facts from disk and kernel, no guesses."""

    id: str
    status: Status
    run: RunState | None
    managed: bool = True  # False: a bundle on disk that the database does not know
    error: str = ""  # why it is unknown or dead
