"""One loop that starts the processes, prints what they say, and starts again any that dies."""

from __future__ import annotations

import os
import re
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from runtime.kernel.procfs import start_time
from workers.supervisor import confine, console, state
from workers.supervisor.instance import Instance
from workers.supervisor.processes import LISTEN_FD, READY_FD, Process

# Seconds before the first, second, … start after a death; the last one repeats.
BACKOFF = (0.1, 0.3, 1.0, 2.0, 5.0, 10.0)
# A process that ran this long, in seconds, is not in a loop: its next death counts as the first.
GOOD_RUN = 10.0

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(slots=True)
class _Child:
    process: Process
    shown: state.ProcessState
    popen: subprocess.Popen[bytes] | None = None
    output: int = -1
    partial: bytes = b""
    start_at: float = 0.0  # monotonic; when to start it (again)
    started: float = 0.0
    failures: int = 0
    kill_at: float = 0.0
    waiting_said: bool = field(default=False)


class Supervisor:
    """Runs `processes` until SIGINT or SIGTERM, then ends them in their order.

    Containers are nobody's child here: their shims go on.
    """

    def __init__(
        self, instance: Instance, processes: list[Process], on_ready: Callable[[], None]
    ) -> None:
        self._instance = instance
        self._on_ready = on_ready
        self._selector = selectors.DefaultSelector()
        self._listener: socket.socket | None = None
        self._stop_requests = 0
        self._greeted = False
        pid = os.getpid()
        self._state = state.SupervisorState(
            pid=pid, start_time=start_time(pid), started_at=time.time(), url=instance.url
        )
        self._children = [_Child(p, state.ProcessState(p.name)) for p in processes]
        self._state.processes = [child.shown for child in self._children]

    def run(self, listener: socket.socket) -> None:
        self._listener = listener
        wakeup, wakeup_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
        for number in (*_STOPPING, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        self._selector.register(
            wakeup, selectors.EVENT_READ, lambda: self._on_signals(os.read(wakeup, 64))
        )
        try:
            while not self._stop_requests:
                self._start_due()
                self._turn(self._time_to_next_start())
            self._stop_all()
        finally:
            # Whatever went wrong here, nothing of ours stays behind.
            for child in self._children:
                if child.popen and child.popen.poll() is None:
                    child.popen.kill()
            state.forget(self._instance)

    # -- starting -----------------------------------------------------------------------------

    def _start_due(self) -> None:
        now = time.monotonic()
        due = [c for c in self._children if c.popen is None and c.start_at <= now]
        for child in due:
            self._start(child)
        if due:
            state.save(self._instance, self._state)

    def _time_to_next_start(self) -> float | None:
        """Seconds; None when nothing waits to be started."""
        waiting = [c.start_at for c in self._children if c.popen is None]
        return max(0.0, min(waiting) - time.monotonic()) if waiting else None

    def _start(self, child: _Child) -> None:
        process = child.process
        output, output_write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(output, False)
        env, handed_down = dict(process.env), []
        ready_write = -1
        if process.listens and self._listener:
            ready, ready_write = os.pipe2(os.O_CLOEXEC)
            self._watch_ready(ready)
            handed_down = [self._listener.fileno(), ready_write]
            env |= {LISTEN_FD: str(handed_down[0]), READY_FD: str(ready_write)}
        try:
            child.popen = subprocess.Popen(
                process.argv,
                executable=process.executable or None,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output_write,
                stderr=output_write,
                pass_fds=handed_down,
                preexec_fn=confine.preparation(process, self._instance),
            )
        except (OSError, subprocess.SubprocessError, KeyError) as error:
            why = _rest(output)
            os.close(output)
            self._say(child, f"could not be started: {why or error}")
            self._plan_restart(child, "not started")
            return
        finally:
            os.close(output_write)
            if ready_write >= 0:
                os.close(ready_write)
        child.output, child.started = output, time.monotonic()
        self._selector.register(output, selectors.EVENT_READ, lambda: self._read(child))
        pid = child.popen.pid
        child.shown.state, child.shown.pid = "running", pid
        child.shown.start_time, child.shown.since = _born(pid), time.time()

    def _watch_ready(self, fd: int) -> None:
        def on_readable() -> None:
            self._selector.unregister(fd)
            said = os.read(fd, 1)
            os.close(fd)
            if said and not self._greeted:
                self._greeted = True
                self._on_ready()

        self._selector.register(fd, selectors.EVENT_READ, on_readable)

    # -- listening ----------------------------------------------------------------------------

    def _turn(self, timeout: float | None) -> None:
        for key, _ in self._selector.select(timeout):
            # One event's handler may have closed what the next event is about.
            if self._selector.get_map().get(key.fd) is key:
                key.data()

    def _on_signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signal.SIGCHLD:
                self._reap()
            elif number in _STOPPING:
                self._stop_requests += 1

    def _read(self, child: _Child) -> None:
        """Print the whole lines that came; keep the rest for next time."""
        try:
            data = os.read(child.output, 65536)
        except BlockingIOError:
            return
        if not data:
            self._close_output(child)
            return
        *lines, child.partial = (child.partial + data).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace").rstrip()
            if not (child.process.noise and re.search(child.process.noise, text)):
                self._say(child, text)

    def _close_output(self, child: _Child) -> None:
        if child.output >= 0:
            self._selector.unregister(child.output)
            os.close(child.output)
            child.output = -1
        if child.partial:
            self._say(child, child.partial.decode(errors="replace"))
            child.partial = b""

    def _say(self, child: _Child, text: str) -> None:
        console.line(child.process.name, child.process.colour, text)

    def _reap(self) -> None:
        for child in self._children:
            if child.popen is None or (code := child.popen.poll()) is None:
                continue
            while child.output >= 0 and self._more_output(child):
                self._read(child)
            self._close_output(child)
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            child.popen = None
            if self._stop_requests:
                child.shown.state, child.shown.pid = "stopped", 0
                continue
            self._plan_restart(child, how)
        state.save(self._instance, self._state)

    def _more_output(self, child: _Child) -> bool:
        """Whether the pipe of a dead child holds something; a grandchild may keep it open for ever."""
        with selectors.DefaultSelector() as one:
            one.register(child.output, selectors.EVENT_READ)
            return bool(one.select(0))

    def _plan_restart(self, child: _Child, how: str) -> None:
        now = time.monotonic()
        if child.started and now - child.started > GOOD_RUN:
            child.failures = 0
        delay = BACKOFF[min(child.failures, len(BACKOFF) - 1)]
        child.failures += 1
        child.start_at = now + delay
        child.shown.state, child.shown.pid, child.shown.last_exit = "waiting", 0, how
        child.shown.restarts += 1
        self._say(child, console.paint(f"ended ({how}); started again in {delay:g} s", "yellow"))

    # -- stopping -----------------------------------------------------------------------------

    def _stop_all(self) -> None:
        """SIGTERM in the stop order, SIGKILL after each one's time; a second Ctrl-C kills at once."""
        self._state.ending = True
        state.save(self._instance, self._state)
        console.step("Stopping the platform; containers go on.")
        for order in sorted({c.process.stop_order for c in self._children}):
            group = [c for c in self._children if c.process.stop_order == order and c.popen]
            now = time.monotonic()
            for child in group:
                child.kill_at = now + child.process.stop_timeout
                if child.popen:
                    child.popen.terminate()
            while alive := [c for c in group if c.popen]:
                for child in alive:
                    overdue = time.monotonic() >= child.kill_at or self._stop_requests > 1
                    if overdue and child.popen:
                        child.popen.kill()
                        child.kill_at = time.monotonic() + 1.0
                self._turn(max(0.0, min(c.kill_at for c in alive) - time.monotonic()))


def _born(pid: int) -> int:
    """Its start time; 0 when that cannot be told, which must not end the platform."""
    try:
        return start_time(pid)
    except OSError:
        return 0


def _rest(fd: int) -> str:
    """What a non-blocking pipe holds now."""
    try:
        return os.read(fd, 4096).decode(errors="replace").strip()
    except BlockingIOError:
        return ""
