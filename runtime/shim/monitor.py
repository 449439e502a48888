"""The monitor of one container: starts init, keeps its output, takes its exit, starts it again by policy.

One single-threaded poll loop. It needs nothing of the platform: engine, worker, web and Redis may all be
away. Whatever it learns goes to state.json and exits.jsonl first.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from typing import Any

from runtime.cgroups import open_cgroup
from runtime.errors import BadState, EngineError, KernelFailure
from runtime.kernel import procfs
from runtime.model.codec import to_json
from runtime.model.plan import Plan
from runtime.model.state import ExitReason, ExitRecord, Status
from runtime.shim.control import Client, ControlSocket, dispatch
from runtime.shim.policy import RestartPolicy
from runtime.shim.record import Record
from runtime.shim.spawn import Child, Namespaces, hold_ports, spawn
from runtime.store.logs import STDOUT, LogWriter

_READ = 65536


class Monitor:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.cgroup = open_cgroup(plan["cgroup"])
        self.record = Record(plan)
        self.policy = RestartPolicy(plan["restart"])
        self.held: list[socket.socket] = []
        self.namespaces: Namespaces | None = None
        self.child: Child | None = None
        self.control: ControlSocket | None = None
        self.logs: LogWriter | None = None
        self.outputs: dict[int, int] = {}  # descriptor -> stream
        self.terminal = -1
        self._oom_before = 0
        self._kill_at = 0.0  # monotonic; when the grace period of a stop ends
        self._restart_at = 0.0  # monotonic
        self._finished = False
        self._stopping: list[Client] = []
        self._waiting: list[Client] = []
        self._handlers = {
            "stop": self._on_stop,
            "kill": self._on_kill,
            "pause": self._on_pause,
            "unpause": self._on_unpause,
            "wait": self._on_wait,
            "update": self._on_update,
            "state": self._on_state,
        }

    # -- the first start ----------------------------------------------------------------------

    def prepare(self) -> int:
        """Take what the container needs of the host, fork init. Returns its pid. Raises EngineError."""
        os.makedirs(self.plan["run_dir"], mode=0o700, exist_ok=True)
        self.held = hold_ports(self.plan["ports"])
        options = self.plan["logs"]
        if options["driver"] == "file":
            directory = f"{self.plan['bundle']}/logs"
            self.logs = LogWriter(directory, options["max_size"], options["max_files"])
        self.namespaces = Namespaces(self.plan)
        self._oom_before = self.cgroup.oom_kills()
        self.child = spawn(self.plan, self.namespaces, first=True)
        return self.child.pid

    def begin(self) -> None:
        """Wait for init's execve, then be reachable. Raises the error that init met."""
        child = self._alive()
        child.release()
        error = child.executed()
        if error is not None:
            raise error
        self.control = ControlSocket(f"{self.plan['run_dir']}/shim.sock")
        self._running("started")

    def abandon(self) -> None:
        """The start failed: leave nothing behind."""
        if self.child is not None:
            self._reap_forced(self.child)
        self._remove_cgroup()

    def _running(self, event: str) -> None:
        child = self._alive()
        self.terminal = child.receive_terminal()
        self.outputs = dict(child.outputs)
        if self.terminal >= 0:
            os.set_blocking(self.terminal, False)
            self.outputs[self.terminal] = STDOUT
        self.record.status = Status.RUNNING
        self.record.pid = child.pid
        self.record.start_time = procfs.start_time(child.pid)
        self.record.started_at = time.time()
        self.record.next_restart_at = 0.0
        self.record.save(event)

    def _alive(self) -> Child:
        if self.child is None:
            raise BadState("reach", self.record.status, ())
        return self.child

    # -- the loop -----------------------------------------------------------------------------

    def run(self) -> None:
        """Until the container has ended for good."""
        while not self._finished:
            poller = select.poll()
            watched = self._watched()
            for fd in watched:
                poller.register(fd, select.POLLIN)
            try:
                events = poller.poll(self._timeout())
            except InterruptedError:
                continue
            # Output first: what a container said before its end belongs before its end.
            for fd, _ in sorted(events, key=lambda e: e[0] not in self.outputs):
                self._ready(fd)
            self._due()
        self._finish()

    def _watched(self) -> list[int]:
        fds = list(self.outputs)
        if self.child is not None:
            fds.append(self.child.pidfd)
        if self.control is not None:
            fds.append(self.control.listener.fileno())
            fds += self.control.clients
        return fds

    def _timeout(self) -> int | None:
        due = [t for t in (self._kill_at, self._restart_at) if t]
        if not due:
            return None
        return max(0, int((min(due) - time.monotonic()) * 1000) + 1)

    def _ready(self, fd: int) -> None:
        if fd in self.outputs:
            self._read_output(fd)
        elif self.child is not None and fd == self.child.pidfd:
            self._on_exit()
        elif self.control is not None:
            if fd == self.control.listener.fileno():
                self.control.accept()
            elif (client := self.control.clients.get(fd)) is not None:
                self._serve(client)

    def _due(self) -> None:
        now = time.monotonic()
        if self._kill_at and now >= self._kill_at:
            self._kill_at = 0.0
            self.cgroup.kill()
        if self._restart_at and now >= self._restart_at and not self._finished:
            self._restart_at = 0.0
            self._restart()

    # -- output -------------------------------------------------------------------------------

    def _read_output(self, fd: int) -> bool:
        """One chunk to the log; False when there is none (now or ever)."""
        try:
            data = os.read(fd, _READ)
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # a terminal whose other side is closed says EIO
        if not data:
            self._close_output(fd)
            return False
        if self.logs is not None:
            self.logs.write(self.outputs[fd], data)
        return True

    def _close_output(self, fd: int) -> None:
        self.outputs.pop(fd, None)
        if self.child is not None:
            self.child.outputs.pop(fd, None)
        if fd == self.terminal:
            self.terminal = -1
        os.close(fd)

    def _drain(self) -> None:
        """What is still in the pipes; then close them, whoever may hold the other side."""
        for fd in list(self.outputs):
            while self._read_output(fd):
                pass
            if fd in self.outputs:
                self._close_output(fd)

    # -- the end of a life --------------------------------------------------------------------

    def _on_exit(self) -> None:
        child = self._alive()
        _, status = os.waitpid(child.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        # With a pid namespace of its own the kernel has killed all others; without, we do.
        if self.plan["namespaces"]["pid"] != "own":
            self.cgroup.kill()
        self._drain()
        child.close()
        self.child = None
        self._kill_at = 0.0
        self._ended(code)

    def _ended(self, code: int, error: EngineError | None = None) -> None:
        """Note the exit; `code` is negative for a signal. Then restart or finish."""
        record = self.record
        record.finished_at = time.time()
        ran_for = record.finished_at - record.started_at if error is None else 0.0
        record.exit = self._exit_record(code, error)
        record.pid = record.start_time = 0
        record.append_exit(record.exit)
        delay = None if record.user_stopped else self.policy.next_delay(record.exit.code, ran_for)
        if delay is None:
            self._finished = True
            return
        record.status = Status.RESTARTING
        record.next_restart_at = time.time() + delay
        self._restart_at = time.monotonic() + delay
        record.save("restarting")

    def _exit_record(self, code: int, error: EngineError | None) -> ExitRecord:
        killer = -code if code < 0 else None
        oom_kills = self.cgroup.oom_kills()
        oom_killed, self._oom_before = oom_kills > self._oom_before, oom_kills
        reason: ExitReason = "exited"
        if error is not None:
            reason = "start_failed"
        elif oom_killed and killer == signal.SIGKILL:
            reason = "oom_killed"
        elif self.record.user_stopped:
            reason = "stopped"
        elif killer is not None:
            reason = "signaled"
        return ExitRecord(
            code=128 + killer if killer is not None else code,
            reason=reason,
            started_at=self.record.started_at,
            finished_at=self.record.finished_at,
            signal=killer,
            oom_killed=oom_killed,
            restart_count=self.record.restart_count,
            error="" if error is None else error.message,
        )

    def _restart(self) -> None:
        if self.namespaces is None:
            return
        self.record.restart_count += 1
        try:
            self._oom_before = self.cgroup.oom_kills()
            self.child = spawn(self.plan, self.namespaces, first=False)
            error = self.child.executed()
        except (EngineError, OSError) as failure:
            error = failure if isinstance(failure, EngineError) else _kernel(failure)
        if error is None:
            self._running("started")
            return
        if self.child is not None:
            self._reap_forced(self.child)
            self.child = None
        self.record.started_at = time.time()
        self._ended(int(error.extra.get("exit_code", 128)), error)

    def _reap_forced(self, child: Child) -> None:
        try:
            child.signal(signal.SIGKILL)
        except OSError:
            pass
        try:
            os.waitpid(child.pid, 0)
        except ChildProcessError:
            pass
        child.close()

    def _finish(self) -> None:
        """Everything is on disk before anybody is told."""
        record = self.record
        record.status = Status.EXITED
        record.next_restart_at = 0.0
        if self.logs is not None:
            self.logs.close()
        self._remove_cgroup()
        for channel in self.held:
            channel.close()
        # Nothing of ours may appear in the run directory once somebody has been told: it may be gone.
        record.save("exited")
        if self.control is not None:
            self.control.retire()
        result = to_json(record.exit)
        for client in (*self._stopping, *self._waiting):
            client.answer(result)
        if self.control is not None:
            self.control.close()

    def _remove_cgroup(self) -> None:
        try:
            self.cgroup.kill()
            self.cgroup.remove()
        except EngineError:
            pass  # the engine's cleanup tries again and reports

    # -- control ------------------------------------------------------------------------------

    def _serve(self, client: Client) -> None:
        requests = client.requests()
        if requests is None:
            for waiting in (self._stopping, self._waiting):
                if client in waiting:
                    waiting.remove(client)
            if self.control is not None:
                self.control.drop(client)
            return
        for request in requests:
            dispatch(client, request, self._handlers)

    def _on_stop(self, client: Client, request: dict[str, Any]) -> None:
        number = int(request.get("signal") or self.plan["stop_signal"])
        asked = request.get("timeout")
        grace = self.plan["stop_timeout"] if asked is None else float(asked)
        self._stopping.append(client)
        self.record.user_stopped = True
        if self.child is None:
            self._restart_at = 0.0
            self._finished = True
            return
        if grace >= 0:
            deadline = time.monotonic() + grace
            self._kill_at = min(self._kill_at, deadline) if self._kill_at else deadline
        self._send(self.child, number)
        if self.record.status == Status.PAUSED:
            self.cgroup.thaw()
            self.record.status = Status.RUNNING

    def _on_kill(self, client: Client, request: dict[str, Any]) -> None:
        number = int(request["signal"])
        if self.child is None:
            raise BadState("kill", self.record.status, self.record.status.actions)
        if number in (signal.SIGKILL, self.plan["stop_signal"]):
            # As Docker: who kills it does not want it back.
            self.record.user_stopped = True
            self.record.save("killed")
        self._send(self.child, number)
        if self.record.status == Status.PAUSED and number == signal.SIGKILL:
            self.cgroup.thaw()
            self.record.status = Status.RUNNING
        client.answer(None)

    def _send(self, child: Child, number: int) -> None:
        try:
            child.signal(number)
        except ProcessLookupError:
            pass  # it has just ended by itself
        except OSError as error:
            raise KernelFailure("pidfd_send_signal", error.errno or 0, str(number)) from error

    def _on_pause(self, client: Client, _: dict[str, Any]) -> None:
        if self.record.status != Status.PAUSED:
            self._require("pause", Status.RUNNING)
            self.cgroup.freeze()
            self.record.status = Status.PAUSED
            self.record.save("paused")
        client.answer(None)

    def _on_unpause(self, client: Client, _: dict[str, Any]) -> None:
        if self.record.status != Status.RUNNING:
            self._require("unpause", Status.PAUSED)
            self.cgroup.thaw()
            self.record.status = Status.RUNNING
            self.record.save("unpaused")
        client.answer(None)

    def _require(self, action: str, status: Status) -> None:
        if self.record.status != status:
            raise BadState(action, self.record.status, self.record.status.actions)

    def _on_wait(self, client: Client, _: dict[str, Any]) -> None:
        self._waiting.append(client)

    def _on_update(self, client: Client, request: dict[str, Any]) -> None:
        if "restart" in request:
            self.policy.replace(dict(request["restart"]))
        if "stop_timeout" in request:
            self.plan["stop_timeout"] = float(request["stop_timeout"])
        if "stop_signal" in request:
            self.plan["stop_signal"] = int(request["stop_signal"])
        client.answer(None)

    def _on_state(self, client: Client, _: dict[str, Any]) -> None:
        client.answer(to_json(self.record.state()))


def _kernel(error: OSError) -> KernelFailure:
    return KernelFailure("restart", error.errno or 0, str(error.filename or ""))
