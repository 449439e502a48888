"""The monitor of one container: keeps its output, takes its exit, starts it again by policy.

One single-threaded poll loop. It needs nothing of the platform: engine, worker, web and Redis may all be
away. Whatever it learns goes to state.json and exits.jsonl first.
"""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING

from runtime.cgroups import open_cgroup
from runtime.errors import BadState, EngineError, KernelFailure
from runtime.shim.control import ControlSocket
from runtime.shim.execs import Execs
from runtime.shim.handlers import Handlers
from runtime.shim.health import HealthChecks
from runtime.shim.life import Life
from runtime.shim.policy import RestartPolicy
from runtime.shim.record import Json, Record, exit_record
from runtime.shim.starter import PLAN_FILE
from runtime.store.logs import open_log

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.shim.attach import Attachments
    from runtime.shim.execs import Exec
    from runtime.shim.handover import Descriptors
    from runtime.store.logs import Sink

_READ = 65536
_PAUSE = 0.05  # seconds, after a call that failed
_DRAIN = 32  # reads; a pipe holds 1 MB at most (fs.pipe-max-size), in reads of up to _READ


class Monitor:
    """Of a container that runs: `message` and `fds` are what its starter has handed over (start.py)."""

    def __init__(self, message: Json, fds: Descriptors) -> None:
        self.plan = plan = message["plan"]
        self._held = [fd for name, fd in fds if name == "held"]  # published ports
        by_name = dict(fds)
        by_name.pop("held", None)
        self._netns = by_name.pop("netns", -1)
        self.control = ControlSocket(f"{plan['run_dir']}/shim.sock", by_name.pop("control"))
        self.life: Life | None = Life(message["life"], by_name)
        self.cgroup = open_cgroup(plan["cgroup"])
        self.record = Record(plan, state=message["state"])
        self.policy = RestartPolicy(plan["restart"])
        self._logs: Sink | None = None  # until there is output
        self._oom_before = message["oom_kills"]
        self._kill_at = 0.0  # monotonic; when the grace period of a stop ends
        self._restart_at = 0.0  # monotonic
        self._finished = False
        self.attached: Attachments | None = None  # once somebody is, in this life
        self.execs = Execs(plan["run_dir"])
        self.health: HealthChecks | None = None
        if plan["health"] is not None:
            self.health = HealthChecks(plan["health"], self._start_check, self._on_health)
            self.health.begin()
        self._handlers = Handlers(self)

    def _running(self, life: Life) -> None:
        if self.health is not None:
            self.health.begin()
            self.record.state["health"] = self.health.state
        self.record.save(
            "started",
            status="running",
            pid=life.pid,
            start_time=life.start_time,
            started_at=time.time(),
            next_restart_at=0.0,
        )

    def alive(self) -> Life:
        if self.life is None:
            raise BadState("reach", self.status, ())
        return self.life

    def finish_by(self, grace: float) -> bool:
        """It is not to come back: killed in `grace` seconds (negative: never). False when nothing runs."""
        if self.life is None:
            self._restart_at = 0.0
            self._finished = True
            return False
        if grace >= 0:
            deadline = time.monotonic() + grace
            self._kill_at = min(self._kill_at, deadline) if self._kill_at else deadline
        return True

    @property
    def pid(self) -> int:
        """Init's, or 0 between two lives."""
        return self.life.pid if self.life is not None else 0

    @property
    def status(self) -> str:
        return str(self.record.state["status"])

    # -- the loop -----------------------------------------------------------------------------

    def run(self) -> None:
        """Until the container has ended for good."""
        while not self._finished:
            poller = select.poll()
            for fd in self._watched():
                poller.register(fd, select.POLLIN)
            if self.attached is not None:
                self.attached.register(poller)
            events = poller.poll(self._timeout())
            outputs = self.life.outputs if self.life is not None else {}
            # Output first: what a container said before its end belongs before its end.
            for fd, mask in sorted(events, key=lambda event: event[0] not in outputs):
                self._guarded(self._ready, fd)
                if self.attached is not None:
                    self._guarded(self.attached.ready, fd, mask)
            self._guarded(self._due)
        self._finish()

    def _guarded(self, step: Callable[..., None], *args: int) -> None:
        """A call that fails costs a moment, not the container: what is to be done is done again."""
        try:
            step(*args)
        except (EngineError, OSError) as error:
            self.record.note(error)
            time.sleep(_PAUSE)

    def _watched(self) -> list[int]:
        fds: list[int] = []
        if self.life is not None:
            fds += [*self.life.outputs, self.life.pidfd, *self.execs.fds()]
        if self.health is not None:
            fds += self.health.fds()
        return [*fds, self.control.listener.fileno(), *self.control.clients]

    def _timeout(self) -> int | None:
        check_at = self.health.due if self.health is not None else 0.0
        due = [t for t in (self._kill_at, self._restart_at, self.execs.due, check_at) if t]
        if not due:
            return None
        return max(0, int((min(due) - time.monotonic()) * 1000) + 1)

    def _ready(self, fd: int) -> None:
        life = self.life
        if life is not None and fd in life.outputs:
            self._read_output(life, fd)
        elif life is not None and fd == life.pidfd:
            self._on_exit(life)
        elif fd in self.execs.fds():
            self.execs.ready(fd)
        elif self.health is not None and fd in self.health.fds():
            self.health.read(fd)
        elif fd == self.control.listener.fileno():
            self.control.accept()
        elif (client := self.control.clients.get(fd)) is not None:
            self._handlers.serve(client)

    def _due(self) -> None:
        now = time.monotonic()
        if self._kill_at and now >= self._kill_at:
            self.cgroup.kill()
            self._kill_at = 0.0
        self.execs.tick(now)
        if self._restart_at and now >= self._restart_at and not self._finished:
            self._restart_at = 0.0
            self._restart()
        if self.health is not None:
            self.health.tick(now, paused=self.status == "paused")

    # -- output -------------------------------------------------------------------------------

    def _read_output(self, life: Life, fd: int) -> bool:
        """One chunk to the log; False when there is none (now or ever)."""
        try:
            data = os.read(fd, _READ)
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # a terminal whose other side is closed says EIO
        if not data:
            life.outputs.pop(fd)
            os.close(fd)
            return False
        self._open_log()
        if self._logs is not None:
            self._logs.write(life.outputs[fd], data)
        if self.attached is not None:
            self.attached.send(life.outputs[fd], data)
        return True

    def _open_log(self) -> None:
        """A disk that refuses costs log lines, never the container's life; the next chunk tries again."""
        if self._logs is not None:
            return
        try:
            self._logs = open_log(f"{self.plan['bundle']}/logs", self.plan["logs"])
        except OSError as error:
            self.record.note(error)

    # -- the end of a life --------------------------------------------------------------------

    def _on_exit(self, life: Life) -> None:
        code = life.reap()
        # With a pid namespace of its own the kernel has killed all others; without, we do.
        if not life.own_pid_namespace:
            self.cgroup.kill()
        for fd in list(life.outputs):
            # No more than a pipe can hold: its other end may have been passed to somebody who goes on.
            for _ in range(_DRAIN):
                if not self._read_output(life, fd):
                    break
        if self.health is not None:
            self.health.stop()
        self.execs.end_all()
        self.life, self._kill_at = None, 0.0
        # Whatever fails from here on is not done again: nothing watches a life that is over.
        self._guarded(life.close)
        self._ended(code)

    def _ended(self, code: int, error: EngineError | None = None) -> None:
        """Note the exit; `code` is negative for a signal. Then restart or finish."""
        state = self.record.state
        now = time.time()
        ran_for = now - state["started_at"] if error is None else 0.0
        record = exit_record(state, code, now, error, oom_killed=self._was_oom_killed())
        state.update(finished_at=now, exit=record, pid=0, start_time=0)
        self.record.append_exit(record)
        delay = None if state["user_stopped"] else self.policy.next_delay(record["code"], ran_for)
        if delay is None:
            self._finished = True
            return
        self._restart_at = time.monotonic() + delay
        self.record.save("restarting", status="restarting", next_restart_at=now + delay)
        self._tell_attached(restarting=True)

    def _tell_attached(self, *, restarting: bool) -> None:
        """Those attached to the life that is over; `restarting`: another one follows."""
        if self.attached is not None:
            self.attached.end({"exit": self.record.state["exit"], "restarting": restarting})
            self.attached = None

    def _was_oom_killed(self) -> bool:
        """The kernel has killed something in this life for want of memory."""
        oom_kills = self.cgroup.oom_kills()
        killed, self._oom_before = oom_kills > self._oom_before, oom_kills
        return bool(killed)

    def _restart(self) -> None:
        self.record.state["restart_count"] += 1
        life: Life | None = None
        error: EngineError | None
        try:
            self.cgroup.renew()
            self._oom_before = self.cgroup.oom_kills()
            life = Life.again(self.plan["run_dir"], self._netns)
            life.let_go()
            error = life.executed()
        except EngineError as failure:
            error = failure
        except OSError as failure:
            error = KernelFailure("restart", failure.errno or 0, str(failure.filename or ""))
        if error is None and life is not None:
            self.life = life
            self._running(life)
            return
        if life is not None:
            life.end()
        self.record.state["started_at"] = time.time()
        self._ended(int(error.extra.get("exit_code", 128)) if error else 128, error)

    def _finish(self) -> None:
        """Everything is on disk before anybody is told."""
        if self._logs is not None:
            self._guarded(self._logs.close)
        self._remove_cgroup()
        self._release_ports()
        self._forget_plan()
        # Who has asked for a stop waits for it, and looks after what it leaves.
        event = "stopped" if self.record.state["user_stopped"] else "exited"
        self.record.save(event, status="exited", next_restart_at=0.0)
        # Nothing of ours may appear in the run directory once somebody has been told: it may be gone.
        self.control.retire()
        self._tell_attached(restarting=False)
        self._handlers.tell_end()
        self.control.close()

    def _forget_plan(self) -> None:
        # It was kept for restarts, and holds the container's environment.
        try:
            os.unlink(f"{self.plan['run_dir']}/{PLAN_FILE}")
        except OSError:
            pass  # not there, or the engine's cleanup tries again

    def _release_ports(self) -> None:
        """Who is told of the end may start the next container on the same ports."""
        for fd in self._held:
            os.close(fd)
        self._held = []

    def _remove_cgroup(self) -> None:
        try:
            self.cgroup.kill()
            self.cgroup.remove()
        except (EngineError, OSError):
            pass  # the engine's cleanup tries again and reports

    # -- what runs beside the container's own process ------------------------------------------

    def _start_check(self, request: Json, on_end: Callable[[int], None]) -> Exec:
        return self.execs.start(self.alive().pidfd, request, on_end)

    def _on_health(self, state: Json) -> None:
        self.record.save("health", health=state)
