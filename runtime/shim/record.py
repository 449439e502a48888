"""What a shim leaves for others to read: state.json, the line of each exit, and a datagram about both.

Plain dictionaries, the JSON of RunState and ExitRecord: the monitor keeps little memory by touching
little code (see starter.py); a test holds the two forms together.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any

from runtime.kernel import procfs
from runtime.store.files import write_atomic

Json = dict[str, Any]


class Record:
    """The container's run state; every change is written whole, then announced."""

    def __init__(self, plan: Json) -> None:
        self._id = plan["id"]
        self._bundle = plan["bundle"]
        self._path = f"{plan['run_dir']}/state.json"
        self._events = plan["events_socket"]
        own = os.getpid()
        self.state: Json = {
            "status": "created",
            "boot_id": plan["boot_id"],
            "shim_pid": own,
            "shim_start_time": procfs.start_time(own),
            "pid": 0,
            "start_time": 0,
            "started_at": 0.0,
            "finished_at": 0.0,
            "restart_count": plan["restart_count"],
            "next_restart_at": 0.0,
            "exit": None,
            "user_stopped": False,
            "version": 1,
        }

    def save(self, event: str, **changes: Any) -> None:
        """Change the state, write state.json, tell the watcher. A full disk must not end the container:
        the state stays in memory, and the control socket tells it.
        """
        self.state.update(changes)
        try:
            # The run directory is volatile by definition: nothing to sync.
            write_atomic(self._path, json.dumps(self.state).encode(), durable=False)
        except OSError:
            pass
        self._announce(event)

    def append_exit(self, record: Json) -> None:
        """One line, on disk before anybody hears of it."""
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            fd = os.open(f"{self._bundle}/exits.jsonl", flags, 0o600)
        except OSError:
            return
        try:
            os.write(fd, line)
            os.fsync(fd)
        except OSError:
            pass
        finally:
            os.close(fd)

    def _announce(self, event: str) -> None:
        message = json.dumps({"id": self._id, "event": event}).encode()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.setblocking(False)
            try:
                channel.sendto(message, self._events)
            except OSError:
                pass  # nobody listens, or not fast enough: the periodic relist finds it
