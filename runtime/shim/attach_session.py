"""A client's side of an attachment (see attach.py for what goes over its socket)."""

from __future__ import annotations

import json
import socket
from typing import Any, NamedTuple

from runtime.errors import BadState, EngineError, ShimLost, from_payload
from runtime.model.codec import from_json
from runtime.model.state import ExitRecord, Status
from runtime.shim.attach import END_OF_INPUT, INPUT, PACKET, SIZE, SIZES, SKIPPED
from runtime.store.logs import STREAMS

_INPUT = 16 * 1024  # bytes in one packet


class Output(NamedTuple):
    """`stream` is "stdout" or "stderr"; or "" and `skipped` bytes that the client was too slow for."""

    stream: str
    data: bytes
    skipped: int = 0


class End(NamedTuple):
    """How the life ended; `restarting`: another one follows, by policy. Of the last output `skipped` bytes did
    not come.
    """

    exit: ExitRecord
    restarting: bool
    skipped: int


class AttachSession:
    """Close it, or use `with`: the container goes on. With `terminal` all output is stdout.

    `stdin` says whether what is written reaches the process. `since` is when it began, in ns since 1970: the
    container's log has everything from before.
    """

    def __init__(
        self, control: socket.socket, channel: socket.socket, told: dict[str, Any]
    ) -> None:
        self._control = control
        self._channel = channel
        self.terminal = bool(told["tty"])
        self.stdin = bool(told["stdin"])
        self.since = int(told["since"])

    def fileno(self) -> int:
        """Readable when there is output, or the end of it; writable when there is room for input."""
        return self._channel.fileno()

    def setblocking(self, blocking: bool) -> None:
        """Without it `read` and `write` raise BlockingIOError when they would have to wait."""
        self._channel.setblocking(blocking)

    def settimeout(self, seconds: float | None) -> None:
        """How long `read` and `write` wait before they raise TimeoutError."""
        self._channel.settimeout(seconds)

    def read(self) -> Output | None:
        """What comes next; None at the end."""
        try:
            packet = self._channel.recv(PACKET + 1)
        except ConnectionError:
            return None
        if not packet:
            return None
        if packet[0] == SKIPPED:
            return Output("", b"", int(packet[1:]))
        return Output(STREAMS[packet[0]], packet[1:])

    def write(self, data: bytes) -> int:
        """Some of it to the process; returns how many bytes. Raises BrokenPipeError after the end."""
        part = data[:_INPUT]
        self._channel.send(bytes((INPUT,)) + part)
        return len(part)

    def end_input(self) -> None:
        """Write no more. The process reads an end when it was made so (stdin_once)."""
        self._channel.send(bytes((END_OF_INPUT,)))

    def resize(self, rows: int, columns: int) -> None:
        """Tell the terminal its size; without one nothing happens."""
        self._channel.send(bytes((SIZE,)) + SIZES.pack(rows, columns))

    def end(self, timeout: float | None = None) -> End:
        """How it ended. Raises TimeoutError, ShimLost."""
        self._control.settimeout(timeout)
        line = self._control.makefile("rb").readline()
        if not line:
            raise ShimLost("The monitor of the container went away.")
        result = result_of(line)
        return End(from_json(ExitRecord, result["exit"]), result["restarting"], result["skipped"])

    def close(self) -> None:
        self._channel.close()
        self._control.close()

    def __enter__(self) -> AttachSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _whole(error: EngineError) -> EngineError:
    """A monitor, which is to stay small, does not know what a status allows."""
    if isinstance(error, BadState) and not error.extra["allowed"]:
        action, status = error.extra["action"], error.extra["status"]
        return BadState(action, status, Status(status).actions)
    return error


def result_of(line: bytes) -> Any:
    """What a monitor answers, or its error raised."""
    answer = json.loads(line)
    if not answer["ok"]:
        raise _whole(from_payload(answer["error"]))
    return answer["result"]
