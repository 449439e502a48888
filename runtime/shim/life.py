"""One life of a container's process: made by a starter, watched through descriptors."""

from __future__ import annotations

import json
import os
import select
import signal
from typing import TYPE_CHECKING, Any, NoReturn

from runtime.errors import EngineError, InitFailed, from_payload
from runtime.shim import sockets
from runtime.shim.starter import run_starter
from runtime.shim.userns import write_maps
from runtime.store.logs import STDERR, STDOUT

if TYPE_CHECKING:
    from collections.abc import Callable

START_TIMEOUT = 120.0  # seconds from fork to exec; mounts on a loaded host may take long
_MAX_MESSAGE = 1 << 20
_MAX_FDS = 253  # SCM_MAX_FD


class Starter:
    """The process that will make one life's init, from our side; forked before it has anything to do.

    `not_for_it` are sockets of ours that it must not hold open; it is `run` with its socket.
    """

    def __init__(
        self, *not_for_it: sockets.Socket, run: Callable[[sockets.Socket], NoReturn] = run_starter
    ) -> None:
        self._channel, theirs = sockets.pair(sockets.SOCK_SEQPACKET)
        self._pid = os.fork()
        if self._pid == 0:
            for inherited in (self._channel, *not_for_it):
                inherited.close()
            run(theirs)
        theirs.close()

    def order(self, run_dir: str, fds: list[int]) -> tuple[dict[str, Any], list[int]]:
        """Have init made (see `run_starter`). Returns the starter's message and its descriptors."""
        sockets.send_fds(self._channel, json.dumps({"run_dir": run_dir}).encode(), fds)
        data, received = self._receive()
        if data.startswith(b'{"map"'):
            self._channel.send(write_maps(self._pid, json.loads(data)["map"]))
            data, received = self._receive()
        if not data:
            raise EngineError("The container's starter died.")
        message: dict[str, Any] = json.loads(data)
        if "error" in message:
            raise from_payload(message["error"])
        return message, received

    def _receive(self) -> tuple[bytes, list[int]]:
        return sockets.recv_fds(self._channel, _MAX_MESSAGE, _MAX_FDS)

    def reap(self) -> None:
        """Wait until it has ended, as it does after its message; nothing happens the second time."""
        if self._pid:
            self._channel.close()
            os.waitpid(self._pid, 0)
            self._pid = 0


class Life:
    """Init as the monitor has it. Raises EngineError when the starter could not make it.

    The first life's plan comes from the engine on `channel`; later ones find it in `run_dir`, and the
    container's network namespace is `netns`, or -1.
    """

    def __init__(
        self,
        starter: Starter,
        *,
        channel: sockets.Socket | None = None,
        run_dir: str = "",
        netns: int = -1,
    ) -> None:
        self._starter = starter
        self._code: int | None = None  # once it is reaped
        given = [channel.fileno()] if channel is not None else [netns] if netns >= 0 else []
        try:
            message, fds = starter.order(run_dir, given)
        except BaseException:
            starter.reap()
            raise
        names = message["fds"]
        self._fds = dict(zip(names, fds, strict=False))
        rest = fds[len(names) :]
        self.netns = rest.pop(0) if message["has_netns"] else -1
        self.held = rest  # published ports, bound
        self.plan: dict[str, Any] | None = message["plan"]
        self.own_pid_namespace: bool = message["own_pid_namespace"]
        self.pid: int = message["pid"]
        self.start_time: int = message["start_time"]
        self.pidfd = self._fds.pop("pidfd")
        self.outputs: dict[int, int] = {}  # descriptor -> stream of runtime.store.logs
        self._terminal = -1
        for name, stream in (("out", STDOUT), ("err", STDERR)):
            if name in self._fds:
                self._watch(self._fds.pop(name), stream)

    def _watch(self, fd: int, stream: int) -> None:
        os.set_blocking(fd, False)
        self.outputs[fd] = stream

    def execute(self) -> EngineError | None:
        """Let init go on: the network is there. Returns when the command runs, or why it does not."""
        self._starter.reap()  # it holds the other ends of init's descriptors
        go, status = self._fds.pop("go"), self._fds.pop("status")
        try:
            os.write(go, b"g")
        except BrokenPipeError:
            pass  # init has failed already; status says why
        os.close(go)
        data = b""
        poller = select.poll()
        poller.register(status, select.POLLIN)
        try:
            while poller.poll(int(START_TIMEOUT * 1000)):
                chunk = os.read(status, 65536)
                if not chunk:
                    break
                data += chunk
            else:
                return InitFailed("init", f"The container did not start in {START_TIMEOUT:.0f} s.")
        finally:
            os.close(status)
        if data:
            return from_payload(json.loads(data))
        self._receive_terminal()
        return None

    def _receive_terminal(self) -> None:
        """The master side of the container's terminal, when it has one, carries its output."""
        if "terminal" not in self._fds:
            return
        channel = sockets.adopt(self._fds.pop("terminal"))
        try:
            _, fds = sockets.recv_fds(channel, 1, 1)
        finally:
            channel.close()
        if fds:
            self._watch(fds[0], STDOUT)
            self._terminal = fds[0]

    @property
    def terminal(self) -> int:
        """The master side of its terminal; -1 when it has none, or none any more."""
        return self._terminal if self._terminal in self.outputs else -1

    @property
    def input(self) -> int:
        """Where to write what it reads: its terminal or a pipe; -1 when it has neither."""
        return self.terminal if self.terminal >= 0 else self._fds.get("in", -1)

    def close_input(self) -> None:
        """It reads the end of its input; a terminal has none."""
        if "in" in self._fds:
            os.close(self._fds.pop("in"))

    def signal(self, number: int) -> None:
        """Raises ProcessLookupError when it is gone; never meets another process of the same pid."""
        signal.pidfd_send_signal(self.pidfd, number)

    def reap(self) -> int:
        """Its exit code, negative for a signal, however often asked; blocks until it has ended."""
        if self._code is None:
            try:
                _, status = os.waitpid(self.pid, 0)
            except ChildProcessError:
                return 128
            self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def end(self) -> None:
        """Kill it, whatever it is doing, and let go of it."""
        try:
            self.signal(signal.SIGKILL)
        except OSError:
            pass
        self.reap()
        self.close()

    def close(self) -> None:
        self._starter.reap()
        fds = [self.pidfd, *self.outputs, *self._fds.values()]
        self.pidfd, self.outputs, self._fds = -1, {}, {}
        for fd in fds:
            if fd >= 0:
                os.close(fd)
