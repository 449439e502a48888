"""One life of a container's process: made by a starter, watched through descriptors."""

from __future__ import annotations

import json
import os
import select
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from runtime.errors import EngineError, InitFailed, from_payload
from runtime.kernel import syscalls
from runtime.shim import handover, sockets
from runtime.shim.naming import set_name
from runtime.shim.starter import run_starter
from runtime.shim.userns import write_maps
from runtime.store.logs import STDERR, STDOUT

if TYPE_CHECKING:
    from collections.abc import Callable

    Descriptors = list[tuple[str, int]]  # by name

START_TIMEOUT = 120.0  # seconds from fork to exec; mounts on a loaded host may take long
_MAX_MESSAGE = 1 << 20
_MAX_FDS = 253  # SCM_MAX_FD


class Starter:
    """The process that makes one life's init, from our side: it is `run` with its end of our socket.

    It is our child or, as a `sibling`, our parent's; `private` are sockets of ours that it must not hold open.
    """

    def __init__(
        self,
        run: Callable[[sockets.Socket], NoReturn] = run_starter,
        *,
        sibling: bool = False,
        private: tuple[sockets.Socket, ...] = (),
    ) -> None:
        self._channel, theirs = sockets.pair(sockets.SOCK_SEQPACKET)
        self.pid = syscalls.fork_sibling() if sibling else os.fork()
        if self.pid == 0:
            for inherited in (self._channel, *private):
                inherited.close()
            run(theirs)
        theirs.close()
        self._sibling = self._reaped = sibling

    def make(self, order: dict[str, Any], given: list[int]) -> tuple[dict[str, Any], Descriptors]:
        """Have init made (see `run_starter`): facts of it and descriptors, by name. Raises EngineError."""
        sockets.send_fds(self._channel, json.dumps(order).encode(), given)
        message, fds = self.made()
        if "error" in message:
            raise from_payload(message["error"])
        return message, fds

    def made(self) -> tuple[dict[str, Any], Descriptors]:
        """What it answers when it has been asked: as `make` returns, or {"error"}. Raises EngineError for no answer."""
        data, fds = self._receive()
        if data.startswith(b'{"map"'):
            self._channel.send(write_maps(self.pid, json.loads(data)["map"]))
            data, fds = self._receive()
        if not data:
            raise EngineError("The container's starter died.")
        message: dict[str, Any] = json.loads(data)
        if "killed" in message and not self._sibling:
            os.waitpid(message["killed"], 0)
        return message, list(zip(message["fds"], fds, strict=True))

    def made_ahead(self) -> tuple[list[int], dict[str, int]]:
        """What a starter in reserve has to say first: the processes that make init, and descriptors by name, of which
        there are as far as it could make them: "netns" is a network namespace, "init" the pidfd of init in reserve.
        """
        data, fds = self._receive()
        makers, names = json.loads(data or b"[[], []]")
        return [self.pid, *makers], dict(zip(names, fds, strict=True))

    def go_on(self) -> None:
        """What it has made is where it belongs."""
        with suppress(OSError):  # then it has ended
            self._channel.send(b"+")

    def hand_over(self) -> tuple[bytes, list[int]] | None:
        """For a monitor whose child conducts a first start (see `run_start`): what runtime.shim.handover has
        packed, or None when nothing has come of it.
        """
        init, makers = -1, list[int]()
        data, fds = self._receive()
        while (said := handover.unpack_init(data)) is not None:
            # The second time it is another, and what was in reserve is one of its makers: it is dead.
            if init >= 0:
                os.close(init)
            makers, init = said, fds[0]
            data, fds = self._receive()
        if data:
            set_name(handover.name(data))
        elif init >= 0:
            # The conductor has ended it, unless something has ended the conductor.
            signal.pidfd_send_signal(init, signal.SIGKILL)
            os.waitid(os.P_PIDFD, init, os.WEXITED)
        if init >= 0:
            os.close(init)
        # Its own end is the conductor's answer: what takes a processor's time comes after it.
        self.reap()
        for pid in makers:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        return (data, fds) if data else None

    def _receive(self) -> tuple[bytes, list[int]]:
        return sockets.recv_fds(self._channel, _MAX_MESSAGE, _MAX_FDS)

    def reap(self) -> None:
        """Wait until it has ended, as it does after its message; nothing happens the second time."""
        if not self._reaped:
            self._channel.close()
            os.waitpid(self.pid, 0)
            self._reaped = True


class Life:
    """Init, from its `facts` ("pid", "start_time", "own_pid_namespace") and its descriptors: "pidfd" and, as
    there are, "out", "err", "in", or "master" of its terminal; "go", "status" and "terminal" before it executes.
    """

    def __init__(
        self, facts: dict[str, Any], fds: dict[str, int], starter: Starter | None = None
    ) -> None:
        self._starter = starter
        self._code: int | None = None  # once it is reaped
        self._fds = fds
        self.own_pid_namespace: bool = facts["own_pid_namespace"]
        self.pid: int = facts["pid"]
        self.start_time: int = facts["start_time"]
        self.pidfd = self._fds.pop("pidfd")
        self.outputs: dict[int, int] = {}  # descriptor -> stream of runtime.store.logs
        self._terminal = -1
        for name, stream in (("out", STDOUT), ("err", STDERR)):
            if name in self._fds:
                self._watch(self._fds.pop(name), stream)
        if "master" in self._fds:
            self._take_terminal(self._fds.pop("master"))

    @classmethod
    def again(cls, run_dir: str, netns: int) -> Life:
        """Another life of the container whose plan is in `run_dir`; `netns` is its network namespace or -1.
        Raises EngineError when the starter could not make it.
        """
        starter = Starter()
        try:
            facts, fds = starter.make({"run_dir": run_dir}, [netns] if netns >= 0 else [])
        except BaseException:
            starter.reap()
            raise
        return cls(facts, dict(fds), starter)

    def facts(self) -> dict[str, Any]:
        return {
            "own_pid_namespace": self.own_pid_namespace,
            "pid": self.pid,
            "start_time": self.start_time,
        }

    def watched(self) -> list[tuple[str, int]]:
        """The descriptors that tell of its end and its output, by their names."""
        names = {STDOUT: "master" if self._terminal >= 0 else "out", STDERR: "err"}
        return [("pidfd", self.pidfd), *((names[s], fd) for fd, s in self.outputs.items())]

    def _watch(self, fd: int, stream: int) -> None:
        os.set_blocking(fd, False)
        self.outputs[fd] = stream

    def let_go(self) -> None:
        """Init may go on: the network is there."""
        if self._starter is not None:
            self._starter.reap()  # it holds the other ends of init's descriptors
        if "go" not in self._fds:
            return  # its starter has done so
        go = self._fds.pop("go")
        try:
            os.write(go, b"g")
        except BrokenPipeError:
            pass  # it has failed already; status says why
        os.close(go)

    def executed(self) -> EngineError | None:
        """Returns when the command runs, or why it does not."""
        status = self._fds.pop("status")
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
            self._take_terminal(fds[0])

    def _take_terminal(self, master: int) -> None:
        self._watch(master, STDOUT)
        self._terminal = master

    @property
    def terminal(self) -> int:
        """The master side of its terminal; -1 when it has none, or none any more."""
        return self._terminal if self._terminal in self.outputs else -1

    @property
    def input(self) -> int:
        """Where to write what it reads: its terminal or a pipe; -1 when it has neither."""
        return self.terminal if self.terminal >= 0 else self.pipe

    @property
    def pipe(self) -> int:
        """Where it reads its input without a terminal, or -1."""
        return self._fds.get("in", -1)

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
        # Who is not its parent waits as well.
        poller = select.poll()
        poller.register(self.pidfd, select.POLLIN)
        poller.poll()
        self.reap()
        self.close()

    def close(self) -> None:
        if self._starter is not None:
            self._starter.reap()
        fds = [self.pidfd, *self.outputs, *self._fds.values()]
        self.pidfd, self.outputs, self._fds = -1, {}, {}
        for fd in fds:
            if fd >= 0:
                os.close(fd)
