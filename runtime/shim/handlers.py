"""What a monitor does when it is asked over its control socket."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from runtime.errors import BadState, KernelFailure, SpecInvalid
from runtime.shim.attach import Attachments, resize
from runtime.shim.control import Client, dispatch

if TYPE_CHECKING:
    from runtime.shim.life import Life
    from runtime.shim.monitor import Monitor
    from runtime.shim.record import Json


# What a container allows while it waits for its next start (runtime.model.state, which costs memory).
_RESTARTING = ("stop", "restart", "kill", "update")


class Handlers:
    """The operations by their names, and who waits for the container's end."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._waiting: list[Client] = []
        self._by_name = {
            "stop": self._stop,
            "kill": self._kill,
            "pause": self._pause,
            "unpause": self._unpause,
            "wait": self._wait,
            "update": self._update,
            "state": self._state,
            "exec": self._exec,
            "attach": self._attach,
            "resize": self._resize,
        }

    def serve(self, client: Client) -> None:
        """What it asks now; let go of it when it has gone."""
        requests = client.requests()
        if requests is not None:
            for request in requests:
                dispatch(client, request, self._by_name)
            return
        if client in self._waiting:
            self._waiting.remove(client)
        self._monitor.control.drop(client)

    def tell_end(self) -> None:
        """The container has ended for good."""
        for client in self._waiting:
            client.answer(self._monitor.record.state["exit"])

    def _stop(self, client: Client, request: Json) -> None:
        monitor = self._monitor
        number = int(request.get("signal") or monitor.plan["stop_signal"])
        asked = request.get("timeout")
        grace = monitor.plan["stop_timeout"] if asked is None else float(asked)
        self._waiting.append(client)
        # On file before the end: whoever finds this monitor dead must not start the container again.
        monitor.record.keep(user_stopped=True)
        if not monitor.finish_by(grace):
            return
        self._send(monitor.alive(), number)
        if monitor.status == "paused":
            self._thaw()

    def _kill(self, client: Client, request: Json) -> None:
        monitor = self._monitor
        number = int(request["signal"])
        ends = number in (signal.SIGKILL, monitor.plan["stop_signal"])
        if ends:
            # As Docker: who kills it does not want it back.
            monitor.record.save("killed", user_stopped=True)
        if monitor.life is None:
            if not ends:
                hint = "Nothing of it runs until its next start; SIGKILL keeps it from that."
                raise BadState("send a signal to", monitor.status, _RESTARTING, hint=hint)
            monitor.finish_by(0)
            client.answer(None)
            return
        self._send(monitor.life, number)
        if monitor.status == "paused" and number == signal.SIGKILL:
            self._thaw()
        client.answer(None)

    def _thaw(self) -> None:
        """So that a signal arrives."""
        self._monitor.cgroup.thaw()
        self._monitor.record.state["status"] = "running"

    def _send(self, life: Life, number: int) -> None:
        try:
            life.signal(number)
        except ProcessLookupError:
            pass  # it has just ended by itself
        except OSError as error:
            raise KernelFailure("pidfd_send_signal", error.errno or 0, str(number)) from error

    def _pause(self, client: Client, _: Json) -> None:
        monitor = self._monitor
        if monitor.status != "paused":
            self._require("pause", "running")
            monitor.cgroup.freeze()
            monitor.record.save("paused", status="paused")
        client.answer(None)

    def _unpause(self, client: Client, _: Json) -> None:
        monitor = self._monitor
        if monitor.status != "running":
            self._require("unpause", "paused")
            monitor.cgroup.thaw()
            monitor.record.save("unpaused", status="running")
        client.answer(None)

    def _require(self, action: str, status: str) -> None:
        if self._monitor.status != status:
            raise BadState(action, self._monitor.status, ())

    def _wait(self, client: Client, _: Json) -> None:
        self._waiting.append(client)

    def _update(self, client: Client, request: Json) -> None:
        monitor = self._monitor
        if "restart" in request:
            monitor.policy.replace(dict(request["restart"]))
        for name in ("stop_timeout", "stop_signal"):
            if name in request:
                monitor.plan[name] = request[name]
        client.answer(None)

    def _state(self, client: Client, _: Json) -> None:
        client.answer(self._monitor.record.state)

    def _exec(self, client: Client, request: Json) -> None:
        self._require("exec", "running")
        self._monitor.execs.serve(client, self._monitor.alive().pidfd, request)

    def _attach(self, client: Client, request: Json) -> None:
        """Answered twice: with a socket (see attach.py), and when this life has ended."""
        self._require("attach to", "running")
        monitor = self._monitor
        if monitor.attached is None:
            monitor.attached = Attachments(monitor.alive(), monitor.plan["run_dir"])
        monitor.attached.add(client, reads=bool(request.get("stdin")))

    def _resize(self, client: Client, request: Json) -> None:
        rows, columns = int(request["rows"]), int(request["columns"])
        if not (0 < rows < 1 << 16 and 0 < columns < 1 << 16):
            raise SpecInvalid("size", "Rows and columns are between 1 and 65535.")
        resize(self._monitor.alive(), rows, columns)
        client.answer(None)
