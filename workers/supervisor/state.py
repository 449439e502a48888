"""`supervisor.json`: which processes of an instance run, for `status`, `down` and a second `up`."""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from runtime.kernel.procfs import is_alive
from runtime.store.files import write_json
from workers.supervisor.instance import Instance


@dataclass(slots=True)
class ProcessState:
    """`state` is running, waiting (to be started again) or stopped; `since` is a Unix time."""

    name: str
    state: str = "waiting"
    pid: int = 0
    start_time: int = 0  # clock ticks since boot: with it, a pid is an identity
    since: float = 0.0
    restarts: int = 0
    last_exit: str = ""


@dataclass(slots=True)
class SupervisorState:
    pid: int
    start_time: int
    started_at: float
    url: str
    version: int = 1
    ending: bool = False  # it was told to stop, and its processes are going
    processes: list[ProcessState] = field(default_factory=list)


def save(instance: Instance, current: SupervisorState) -> None:
    write_json(instance.state_file, asdict(current), durable=False)


def load(instance: Instance) -> SupervisorState | None:
    """The state of the supervisor that runs now; None when none does."""
    try:
        raw: dict[str, Any] = json.loads(instance.state_file.read_bytes())
        processes = [ProcessState(**process) for process in raw.pop("processes")]
        current = SupervisorState(**raw, processes=processes)
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None
    return current if is_alive(current.pid, current.start_time) else None


def forget(instance: Instance) -> None:
    instance.state_file.unlink(missing_ok=True)


class Lock:
    """Held by the one supervisor of an instance for as long as it lives; the kernel lets it go."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self) -> bool:
        """Whether the lock is now ours."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def wait(self, seconds: float) -> bool:
        """As `take`, but give its holder some time to go."""
        until = time.monotonic() + seconds
        while not (ours := self.take()) and time.monotonic() < until:
            time.sleep(0.05)
        return ours
