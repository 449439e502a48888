"""Health checks: a command run now and then inside the container (`docker run --health-cmd`)."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

from runtime.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.shim.execs import Exec

    Start = Callable[[dict[str, Any], Callable[[int], None]], Exec]

_OUTPUT = 4096  # bytes kept of a check
_KEPT = 5  # results
_NO_CODE = -1  # as Docker has it: timed out, or could not be run


def first_state() -> dict[str, Any]:
    """Of a container that has just started."""
    return {"status": "starting", "failing_streak": 0, "log": []}


class HealthChecks:
    """Driven by the monitor's loop. `options` is the JSON of Health, `start` runs a command, `changed`
    is called with the JSON of HealthState after each check.
    """

    def __init__(
        self, options: dict[str, Any], start: Start, changed: Callable[[dict[str, Any]], None]
    ) -> None:
        self._options = options
        self._start = start
        self._changed = changed
        self._exec: Exec | None = None
        self._output = b""
        self._began = 0.0  # Unix seconds
        self._born = 0.0  # monotonic; the start of this life
        self.state: dict[str, Any] = {}
        self.due = 0.0  # monotonic; when to look next, 0 = not at all

    def begin(self) -> None:
        """The container runs, anew."""
        self.state = first_state()
        self._born = time.monotonic()
        self._plan_next()

    def stop(self) -> None:
        """It does not run any more. What runs for us ends with it, and is reaped by the monitor."""
        self._exec = None
        self.due = 0.0

    def fds(self) -> list[int]:
        return list(self._exec.fds.values()) if self._exec is not None else []

    def read(self, fd: int) -> None:
        """Some output of the check, or its end."""
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            return
        if self._exec is None:
            return
        name = next(n for n, f in self._exec.fds.items() if f == fd)
        if not data:
            os.close(self._exec.fds.pop(name))
        elif name == "status":
            # Why the command could not be executed.
            data = str(json.loads(data)["message"]).encode()
        self._output = (self._output + data)[:_OUTPUT]

    def tick(self, now: float, *, paused: bool) -> None:
        """Start a check that is due; end one that takes too long."""
        if not self.due or now < self.due:
            return
        if self._exec is not None:
            running, self._exec = self._exec, None
            running.kill()
            running.release()
            self._note(
                _NO_CODE, f"The check took longer than {self._options['timeout']:g} s.".encode()
            )
        elif paused:
            self._plan_next()
        else:
            self._check(now)

    def _check(self, now: float) -> None:
        self._output = b""
        self._began = time.time()
        try:
            self._exec = self._start({"args": self._options["test"]}, self._ended)
        except (EngineError, OSError) as error:
            self._note(_NO_CODE, str(error).encode())
            return
        for fd in self.fds():
            os.set_blocking(fd, False)
        self.due = now + float(self._options["timeout"])

    def _ended(self, code: int) -> None:
        """Called with the exit code once it is reaped, its pipes still open."""
        running = self._exec
        if running is None:
            return  # it was given up
        for fd in self.fds():
            self.read(fd)
        self._exec = None
        self._note(code, self._output)

    def _note(self, code: int, output: bytes) -> None:
        state = self.state
        result = {
            "start": self._began,
            "end": time.time(),
            "exit_code": code,
            "output": output.decode("utf-8", "replace"),
        }
        state["log"] = [*state["log"], result][-_KEPT:]
        if code == 0:
            state.update(status="healthy", failing_streak=0)
        elif not self._is_starting():
            state["failing_streak"] += 1
            if state["failing_streak"] >= max(self._options["retries"], 1):
                state["status"] = "unhealthy"
        self._plan_next()
        self._changed(state)

    def _is_starting(self) -> bool:
        """Failures do not count yet."""
        period = float(self._options["start_period"])
        return self.state["status"] == "starting" and time.monotonic() - self._born < period

    def _plan_next(self) -> None:
        name = "start_interval" if self._is_starting() else "interval"
        self.due = time.monotonic() + float(self._options[name])
