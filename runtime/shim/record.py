"""What a shim leaves for others to read: state.json, the line of each exit, and a datagram about both.

Plain dictionaries, the JSON of RunState and ExitRecord: the monitor keeps little memory by touching
little code (see starter.py); a test holds the two forms together.
"""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any

from runtime.kernel import procfs
from runtime.shim.sockets import send_datagram
from runtime.store.files import write_atomic

if TYPE_CHECKING:
    from runtime.errors import EngineError

Json = dict[str, Any]
_KILLED = 128 + signal.SIGKILL
_TRIES = 3  # of a write: not every error comes again


def exit_record(
    state: Json, code: int, now: float, error: EngineError | None, *, oom_killed: bool
) -> Json:
    """The JSON of an ExitRecord; `code` is negative for a signal, `error` what kept it from starting."""
    killer = -code if code < 0 else None
    shown = code if killer is None else 128 + killer
    reason = "exited"
    if error is not None:
        reason = "start_failed"
    elif oom_killed and shown == _KILLED:
        # As a status too: an init of ours (`--init`) ends with its child's.
        reason = "oom_killed"
    elif state["user_stopped"]:
        reason = "stopped"
    elif killer is not None:
        reason = "signaled"
    return {
        "code": shown,
        "reason": reason,
        "started_at": state["started_at"],
        "finished_at": now,
        "signal": killer,
        "oom_killed": oom_killed,
        "restart_count": state["restart_count"],
        "error": "" if error is None else error.message,
    }


class Record:
    """The container's run state; every change is written whole, then announced."""

    def __init__(self, plan: Json, *, shim: int = 0, state: Json | None = None) -> None:
        """Of a monitor with the pid `shim`, which begins; or, in that monitor, with the `state` so far."""
        self._id = plan["id"]
        self._bundle = plan["bundle"]
        self._path = f"{plan['run_dir']}/state.json"
        self._events = plan["events_socket"]
        self._unwritten = b""  # lines of exits.jsonl
        self.written = b""  # the state's JSON, as it was kept last
        self.state: Json = state or {
            "status": "created",
            "boot_id": plan["boot_id"],
            "shim_pid": shim,
            "shim_start_time": procfs.start_time(shim),
            "pid": 0,
            "start_time": 0,
            "started_at": 0.0,
            "finished_at": 0.0,
            "restart_count": plan["restart_count"],
            "next_restart_at": 0.0,
            "exit": None,
            "health": {"status": "none", "failing_streak": 0, "log": []},
            "user_stopped": False,
            "version": 1,
        }

    def save(self, event: str, **changes: Any) -> None:
        """Change the state, write state.json, tell the watcher."""
        self.keep(**changes)
        self.announce(event)

    def keep(self, **changes: Any) -> None:
        """Change the state and write state.json. A full disk must not end the container: the state stays
        in memory, and the control socket tells it.
        """
        self.state.update(changes)
        self.written = json.dumps(self.state).encode()
        for _ in range(_TRIES):
            try:
                # The run directory is volatile by definition: nothing to sync.
                write_atomic(self._path, self.written, durable=False)
                break
            except OSError:
                continue

    def append_exit(self, record: Json) -> None:
        """One line, on disk before anybody hears of it. What the disk does not take goes with the next;
        the last one stays in the state, from which the engine takes it (Observer.complete_exits).
        """
        self._unwritten += json.dumps(record, separators=(",", ":")).encode() + b"\n"
        for _ in range(_TRIES):
            try:
                self._write_exits()
                return
            except OSError:
                continue

    def _write_exits(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        fd = os.open(f"{self._bundle}/exits.jsonl", flags, 0o600)
        try:
            while self._unwritten:
                self._unwritten = self._unwritten[os.write(fd, self._unwritten) :]
            os.fsync(fd)
        finally:
            os.close(fd)

    def announce(self, event: str) -> None:
        """Tell the watcher."""
        message = json.dumps({"id": self._id, "event": event}).encode()
        try:
            send_datagram(self._events, message)
        except OSError:
            pass  # nobody listens, or not fast enough: the periodic relist finds it

    def note(self, error: Exception) -> None:
        """What the monitor met, for whoever looks into the run directory."""
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            fd = os.open(f"{os.path.dirname(self._path)}/shim.log", flags, 0o600)
        except OSError:
            return
        try:
            os.write(fd, f"{time.time():.3f} {type(error).__name__}: {error}\n".encode())
        except OSError:
            pass
        finally:
            os.close(fd)
