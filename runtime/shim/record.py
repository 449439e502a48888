"""What a shim leaves for others to read: state.json, the line of each exit, and a datagram about both."""

from __future__ import annotations

import json
import os
import socket

from runtime.kernel import procfs
from runtime.model.codec import to_json
from runtime.model.plan import Plan
from runtime.model.state import ExitRecord, HealthState, RunState, Status
from runtime.store.files import write_json


class Record:
    """The container's run state; every change is written whole, then announced."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._path = f"{plan['run_dir']}/state.json"
        self._shim = (os.getpid(), procfs.start_time(os.getpid()))
        self.status = Status.CREATED
        self.pid = 0
        self.start_time = 0
        self.started_at = 0.0
        self.finished_at = 0.0
        self.restart_count = plan["restart_count"]
        self.next_restart_at = 0.0
        self.exit: ExitRecord | None = None
        self.health = HealthState()
        self.user_stopped = False

    def state(self) -> RunState:
        return RunState(
            status=self.status,
            boot_id=self._plan["boot_id"],
            shim_pid=self._shim[0],
            shim_start_time=self._shim[1],
            pid=self.pid,
            start_time=self.start_time,
            started_at=self.started_at,
            finished_at=self.finished_at,
            restart_count=self.restart_count,
            next_restart_at=self.next_restart_at,
            exit=self.exit,
            health=self.health,
            user_stopped=self.user_stopped,
        )

    def save(self, event: str) -> None:
        """Write state.json, then tell the watcher. A full disk must not end the container: the state
        stays in memory, and the control socket tells it.
        """
        try:
            # The run directory is volatile by definition: nothing to sync.
            write_json(self._path, to_json(self.state()), durable=False)
        except OSError:
            pass
        self.announce(event)

    def append_exit(self, record: ExitRecord) -> None:
        """One line, on disk before anybody hears of it."""
        line = json.dumps(to_json(record), separators=(",", ":")).encode() + b"\n"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            fd = os.open(f"{self._plan['bundle']}/exits.jsonl", flags, 0o600)
        except OSError:
            return
        try:
            os.write(fd, line)
            os.fsync(fd)
        except OSError:
            pass
        finally:
            os.close(fd)

    def announce(self, event: str) -> None:
        message = json.dumps({"id": self._plan["id"], "event": event}).encode()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.setblocking(False)
            try:
                channel.sendto(message, self._plan["events_socket"])
            except OSError:
                pass  # nobody listens, or not fast enough: the periodic relist finds it
