"""A container's first start, from the engine's connection to the monitor that takes over.

The conductor of a start is a short-lived child of the monitor, which sleeps meanwhile: none of what a start
touches becomes the monitor's. It stays the host's root, while its starter (starter.py) becomes root of the
container's user namespace to make init.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from runtime.cgroups import open_cgroup
from runtime.errors import EngineError, from_payload
from runtime.kernel import constants as c
from runtime.kernel import syscalls
from runtime.shim import handover, sockets
from runtime.shim.control import ControlSocket, path_of
from runtime.shim.health import first_state
from runtime.shim.life import Life, Starter
from runtime.shim.memory import take_own
from runtime.shim.naming import set_name
from runtime.shim.record import Record
from runtime.shim.starter import PLAN_FILE
from runtime.shim.starter import run_in_reserve as run_starter_in_reserve

if TYPE_CHECKING:
    from collections.abc import Callable


def run_in_reserve(
    orders: sockets.Socket, listener: sockets.Socket, to_monitor: sockets.Socket
) -> NoReturn:
    """Start the container that the next connection to `listener` asks for, with all done that can be done before.

    The starter takes the connection; `orders` is its (see `run_starter_in_reserve`).
    """
    run = partial(run_starter_in_reserve, orders, listener, os.getpid())
    starter = Starter(run, sibling=True, private=(to_monitor,))
    orders.close()
    listener.close()
    makers, ahead = starter.made_ahead()
    if "netns" in ahead:
        # Where the engine finds it.
        syscalls.setns(ahead["netns"], c.CLONE_NEWNET)
    if "init" in ahead:
        sockets.send_fds(to_monitor, handover.pack_init(*makers), [ahead["init"]])
    for fd in ahead.values():
        os.close(fd)
    take_own()
    starter.go_on()
    try:
        message, fds = starter.made()
    except EngineError:
        os._exit(0)  # the launcher has ended, or the starter: who has connected sees it
    engine = sockets.adopt(dict(fds)["engine"])
    fds.remove(("engine", engine.fileno()))
    _conduct(engine, lambda: _Start(engine, to_monitor, starter, message, fds))


def run_start(engine: sockets.Socket, to_monitor: sockets.Socket) -> NoReturn:
    """Start the container whose plan comes from `engine`, tell both how it went, and end.

    The engine gets lines of JSON: {"stage": "netns", "pid"} when it may wire the network, {"stage": "running",
    "state"} or {"stage": "failed", "error"}. The monitor gets init's pidfd as soon as there is one, so that
    it can end it when we cannot, and at last what runtime.shim.handover packs; the end without that means
    that nothing is left.
    """

    def make() -> _Start:
        starter = Starter(sibling=True, private=(engine, to_monitor))
        message, fds = starter.make({"engine": os.getpid()}, [engine.fileno()])
        return _Start(engine, to_monitor, starter, message, fds)

    _conduct(engine, make)


def _conduct(engine: sockets.Socket, make: Callable[[], _Start]) -> NoReturn:
    set_name("start")
    try:
        make().run()
    except EngineError as error:
        _tell(engine, {"stage": "failed", "error": error.payload()})
    except BaseException as error:  # noqa: BLE001 - the last frame of this process
        failure = EngineError(f"The container's monitor failed: {type(error).__name__}: {error}")
        _tell(engine, {"stage": "failed", "error": failure.payload()})
    finally:
        os._exit(0)


class _Start:
    def __init__(
        self,
        engine: sockets.Socket,
        to_monitor: sockets.Socket,
        starter: Starter,
        message: dict[str, Any],
        fds: list[tuple[str, int]],
    ) -> None:
        """Of what `starter` has made. Raises EngineError when it has not."""
        if "error" in message:
            raise from_payload(message["error"])
        self._engine = engine
        self._to_monitor = to_monitor
        self._makers = [starter.pid, *message["others"]]
        self._of_reserve: bool = message["of_reserve"]
        self._held = [(name, fd) for name, fd in fds if name in ("held", "netns")]
        rest = dict(fd for fd in fds if fd not in self._held)
        self._plan: dict[str, Any] = message["plan"]
        self._control: ControlSocket | None = None
        if "control" in rest:
            self._control = ControlSocket(path_of(self._plan), rest.pop("control"))
        self._life = Life(message, rest)
        self._announced: bool = message["announced"]
        self._record = Record(self._plan, shim=os.getppid())
        self._oom_kills = open_cgroup(self._plan["cgroup"]).oom_kills()

    def run(self) -> None:
        """Raises EngineError, OSError; nothing is left of the container then."""
        try:
            self._prepare()
            if self._plan["wait_for_network"] and not sockets.receive_line(self._engine):
                # The engine has gone or given up: it undoes its side, this is ours.
                raise EngineError("Nobody waits for the container any more.")
            if not self._of_reserve:
                # Until now it would have ended with us.
                init = handover.pack_init(*self._makers)
                sockets.send_fds(self._to_monitor, init, [self._life.pidfd])
            self._life.let_go()
            # A first time for nothing, so that it is quick the second: we only wait for init now.
            self._pack()
            if (error := self._life.executed()) is not None:
                raise error
            self._note_running()
            sockets.send_fds(self._to_monitor, *self._pack())
        except BaseException:
            self._abandon()
            raise
        with suppress(OSError):  # as in _tell
            self._engine.sendall(b'{"stage": "running", "state": %b}\n' % self._record.written)
        self._record.announce("started")

    def _prepare(self) -> None:
        """What can be done while the engine wires the network."""
        if not self._announced:
            _tell(self._engine, {"stage": "netns", "pid": self._life.pid})
        if self._control is None:
            self._control = ControlSocket(path_of(self._plan))
        if self._plan["health"] is not None:
            self._record.state["health"] = first_state()

    def _note_running(self) -> None:
        self._record.keep(
            status="running",
            pid=self._life.pid,
            start_time=self._life.start_time,
            started_at=time.time(),
        )

    def _pack(self) -> tuple[bytes, list[int]]:
        """What the monitor gets."""
        assert self._control is not None
        message = {
            "plan": self._plan,
            "oom_kills": self._oom_kills,
            "life": self._life.facts(),
        }
        watched = [*self._life.watched(), ("control", self._control.listener.fileno())]
        rest = self._held
        if self._life.pipe >= 0:
            rest = [*rest, ("in", self._life.pipe)]
        return handover.pack(message, self._record.written, watched, rest)

    def _abandon(self) -> None:
        """Leave nothing of a start that did not succeed; what resists, the engine's cleanup tries again."""
        self._life.end()
        if self._control is not None:
            self._control.retire()
        group = open_cgroup(self._plan["cgroup"])
        with suppress(EngineError, OSError):
            group.kill()
            group.remove()
        with suppress(OSError):
            os.unlink(f"{self._plan['run_dir']}/{PLAN_FILE}")
        for _, fd in self._held:
            os.close(fd)


def _tell(engine: sockets.Socket, message: dict[str, Any]) -> None:
    with suppress(OSError):  # nobody waits any more; the state on disk tells
        sockets.send_json(engine, message)
