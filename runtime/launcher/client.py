"""Ask the launcher for a container."""

from __future__ import annotations

import json
import socket
from typing import Any

from runtime.errors import InitFailed, LauncherUnavailable, from_payload
from runtime.model.codec import from_json
from runtime.model.plan import Plan
from runtime.model.state import RunState
from runtime.store.paths import Config

_TIMEOUT = 150.0  # seconds for any one answer; longer than the shim's own patience with init

_FAREWELL = 5.0  # seconds for a monitor to end that is not wanted any more


class StartSession:
    """One start in progress. Closing it before `go()` makes the shim give up and leave nothing."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._stream = channel.makefile("rb")
        self._answered = False

    def wait_netns(self) -> int:
        """Pid of init, whose network namespace waits for its interfaces. Raises what the shim met."""
        message = self._next()
        while message["stage"] != "netns":
            message = self._next()
        return int(message["pid"])

    def go(self) -> None:
        """The interfaces are there."""
        try:
            self._channel.sendall(b"go\n")
        except OSError as error:
            raise InitFailed("network", "The container's monitor went away.") from error

    def wait_running(self) -> RunState:
        """Return when init has executed the command. Raises InitFailed, PortInUse, KernelFailure …"""
        message = self._next()
        while message["stage"] != "running":
            message = self._next()
        return from_json(RunState, message["state"])

    def give_up(self) -> None:
        """Have the monitor take back what it made, and return when it has gone: the next start makes the same
        groups and files again.
        """
        try:
            self._channel.shutdown(socket.SHUT_WR)
            self._channel.settimeout(_FAREWELL)
            while self._stream.read1():
                pass
        except OSError:
            pass
        self.close()

    def close(self) -> None:
        self._stream.close()
        self._channel.close()

    def __enter__(self) -> StartSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next(self) -> dict[str, Any]:
        try:
            line = self._stream.readline()
        except OSError as error:
            if isinstance(error, ConnectionResetError) and not self._answered:
                # Nobody has read the plan: the launcher died before it forked.
                raise _unavailable() from error
            raise InitFailed(
                "launch", f"The container's monitor does not answer: {error}."
            ) from error
        self._answered = True
        if not line:
            raise InitFailed("launch", "The container's monitor ended before the container ran.")
        message: dict[str, Any] = json.loads(line)
        if message["stage"] == "failed":
            raise from_payload(message["error"])
        return message


class LauncherClient:
    def __init__(self, config: Config) -> None:
        self._path = str(config.launcher_socket)

    def start(self, plan: Plan) -> StartSession:
        """Hand the plan over. Raises LauncherUnavailable when nobody listens."""
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        channel.settimeout(_TIMEOUT)
        try:
            channel.connect(self._path)
            channel.sendall(json.dumps(plan).encode() + b"\n")
        except OSError as error:
            channel.close()
            raise _unavailable() from error
        return StartSession(channel)


def _unavailable() -> LauncherUnavailable:
    return LauncherUnavailable(
        "The launcher does not answer, so no container can be started now.",
        hint="It is restarted by itself within seconds; `./slipway status` shows it.",
    )
