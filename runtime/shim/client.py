"""Talk to the monitor of a running container."""

from __future__ import annotations

import json
import os
import socket
import termios
from collections.abc import Callable, Sequence
from typing import Any

from runtime.errors import NotFound, ShimLost, from_payload
from runtime.model.codec import from_json
from runtime.model.state import ExitRecord, RunState
from runtime.shim.attach_session import AttachSession, result_of
from runtime.store.paths import Config

_TIMEOUT = 10.0  # seconds for what is answered at once


class ShimClient:
    """One connection per request. Raises NotFound when there is no monitor, ShimLost when it goes away."""

    def __init__(self, config: Config, container_id: str) -> None:
        self._id = container_id
        self._path = str(config.container_run(container_id) / "shim.sock")

    def stop(
        self,
        signal: int | None = None,
        timeout: float | None = None,
        *,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> ExitRecord:
        """Signal, wait `timeout` seconds (None: the container's own), kill. Returns when it is gone; `meanwhile` is
        called once it has been asked.
        """
        message = {"op": "stop", "signal": signal, "timeout": timeout}
        return from_json(ExitRecord, self._request(message, None, meanwhile))

    def kill(self, signal: int) -> None:
        self._request({"op": "kill", "signal": signal})

    def pause(self) -> None:
        self._request({"op": "pause"})

    def unpause(self) -> None:
        self._request({"op": "unpause"})

    def wait(self, timeout: float | None = None) -> ExitRecord | None:
        """The final exit, or None when `timeout` seconds pass first."""
        try:
            return from_json(ExitRecord, self._request({"op": "wait"}, timeout))
        except TimeoutError:
            return None

    def update(self, **values: Any) -> None:
        """restart={"name", "max_retries"}, stop_timeout (s), stop_signal (number)."""
        self._request({"op": "update", **values})

    def state(self) -> RunState:
        return from_json(RunState, self._request({"op": "state"}))

    def exec(self, args: Sequence[str], **options: Any) -> ExecSession:
        """Run another process in the container.

        Options, each the container's own when left out: env (added to it, "NAME=value"), cwd, user,
        groups, capabilities (as in a plan); tty and stdin are off. Raises InitFailed with `docker
        exec`'s exit codes, BadState unless the container runs.
        """
        channel = self._connect(_TIMEOUT)
        try:
            message = {"op": "exec", "args": list(args), **options}
            channel.sendall(json.dumps(message).encode() + b"\n")
            data, fds, _, _ = socket.recv_fds(channel, 65536, 8)
            if not data:
                raise self._lost()
            result = result_of(data)
        except BaseException:
            channel.close()
            raise
        return ExecSession(channel, result["pid"], dict(zip(result["fds"], fds, strict=True)))

    def attach(self, *, stdin: bool = False) -> AttachSession:
        """Join the clients of the container's own process; `stdin`: what we write is for it.

        Raises BadState unless the container runs, Conflict when too many are attached.
        """
        channel = self._connect(_TIMEOUT)
        try:
            channel.sendall(json.dumps({"op": "attach", "stdin": stdin}).encode() + b"\n")
            data, fds, _, _ = socket.recv_fds(channel, 65536, 1)
            if not data:
                raise self._lost()
            told = result_of(data)
        except BaseException:
            channel.close()
            raise
        return AttachSession(channel, socket.socket(fileno=fds[0]), told)

    def resize(self, rows: int, columns: int) -> None:
        """Tell the container's terminal its size. Raises Conflict when it has none, SpecInvalid."""
        self._request({"op": "resize", "rows": rows, "columns": columns})

    def _request(
        self,
        message: dict[str, Any],
        timeout: float | None = _TIMEOUT,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Any:
        with self._connect(timeout) as channel:
            try:
                channel.sendall(json.dumps(message).encode() + b"\n")
            except TimeoutError:
                raise
            except OSError as error:
                raise self._lost() from error
            meanwhile()
            try:
                line = channel.makefile("rb").readline()
            except TimeoutError:
                raise
            except OSError as error:
                raise self._lost() from error
        if not line:
            raise self._lost()
        return result_of(line)

    def _connect(self, timeout: float | None) -> socket.socket:
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        channel.settimeout(timeout)
        try:
            channel.connect(self._path)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            channel.close()
            raise NotFound(
                f"Container {self._id[:12]} has no running monitor.", id=self._id
            ) from error
        return channel

    def _lost(self) -> ShimLost:
        return ShimLost(f"The monitor of container {self._id[:12]} went away.", id=self._id)


class ExecSession:
    """A process in the container and our ends of its descriptors; close it, or use `with`.

    `stdin`, `stdout` and `stderr` are pipes; with a terminal `terminal` is its master side and they are
    -1, as is stdin that was not asked for. Closing them does not end the process.
    """

    def __init__(self, channel: socket.socket, pid: int, fds: dict[str, int]) -> None:
        self.pid = pid  # in the host's pid namespace
        self._channel = channel
        self.stdin, self.stdout, self.stderr = (fds.get(n, -1) for n in ("in", "out", "err"))
        self.terminal = -1
        try:
            with os.fdopen(fds["status"], "rb") as status:
                failure = status.read()
            if "terminal" in fds:
                with socket.socket(fileno=fds["terminal"]) as sender:
                    received = socket.recv_fds(sender, 1, 1)[1]
                self.terminal = received[0] if received else -1
            if failure:
                raise from_payload(json.loads(failure))
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Readable when it has ended, so that `wait` answers at once."""
        return self._channel.fileno()

    def resize(self, rows: int, columns: int) -> None:
        """Tell the terminal its size. Raises OSError when it has none, or has ended."""
        termios.tcsetwinsize(self.terminal, (rows, columns))

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code: its status, or 128 and its signal. Raises TimeoutError, ShimLost."""
        self._channel.settimeout(timeout)
        line = self._channel.makefile("rb").readline()
        if not line:
            raise ShimLost("The monitor of the container went away.")
        return int(result_of(line)["exit_code"])

    def close(self) -> None:
        for fd in (self.stdin, self.stdout, self.stderr, self.terminal):
            if fd >= 0:
                os.close(fd)
        self.stdin = self.stdout = self.stderr = self.terminal = -1
        self._channel.close()

    def __enter__(self) -> ExecSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
