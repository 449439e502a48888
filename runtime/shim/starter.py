"""The short-lived process that makes a container's init: reads the plan, takes ports, forks.

It ends as soon as init exists. What starting costs in memory (the plan, the mount steps, the pages that all
that code touches) goes with it; the monitor, which stays for the life of the container, never loads any of
it. Init is forked as the monitor's child, not as the starter's.
"""

from __future__ import annotations

import json
import os
import select
import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn

from runtime.cgroups import open_cgroup
from runtime.errors import EngineError, Unsupported, error_context
from runtime.kernel import constants as c
from runtime.kernel import procfs, syscalls
from runtime.shim import sockets, userns
from runtime.shim.ahead import InitAhead
from runtime.shim.ahead import fits as ahead_fits
from runtime.shim.control import ControlSocket, path_of
from runtime.shim.init import as_init_failed, write_oom_score
from runtime.shim.memory import take_own
from runtime.shim.namespaces import Namespaces
from runtime.shim.ports import hold_ports
from runtime.shim.spawn import Unwatched, spawn
from runtime.store.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runtime.model.plan import Plan

    Descriptors = list[tuple[str, int]]  # by name
    Made = tuple[dict[str, Any], Descriptors]  # facts of init, and what the monitor gets of it

PLAN_FILE = "plan.json"
_MAX_ORDER = 1 << 14  # bytes
# What the start goes on with, and the monitor keeps, of a plan.
_KEPT = (
    "id",
    "bundle",
    "run_dir",
    "boot_id",
    "cgroup",
    "events_socket",
    "health",
    "logs",
    "restart",
    "restart_count",
    "stop_signal",
    "stop_timeout",
    "wait_for_network",
)


def run_starter(asker: sockets.Socket) -> NoReturn:
    """Wait for the order, fork init and hand it over: one message with descriptors, or one with an error, and
    the pid of an init that was "killed".

    For a first start (start.py) the order is {"engine": pid}, with the engine's connection, on which the plan
    comes. For another start it is {"run_dir"}, where the first has left the plan, with the container's network
    namespace if it has one. Never returns.
    """
    data, given = sockets.recv_fds(asker, _MAX_ORDER, 1)
    if not data:
        os._exit(0)  # nobody was ever asked for a container

    def make() -> Made:
        order = json.loads(data)
        if "engine" in order:
            first = First(asker, sockets.adopt(given[0]), order["engine"], InitAhead())
            return first.make()
        return _make_again(asker, order["run_dir"], given[0] if given else -1)

    _answer(asker, make)
    os._exit(0)


def run_in_reserve(
    orders: sockets.Socket, listener: sockets.Socket, conductor: int, asker: sockets.Socket
) -> NoReturn:
    """As `run_starter` for a first start, with what can be done before, for the next connection to `listener`.

    First comes what `Starter.made_ahead` reads, with the network namespace that most containers have use for; when
    the `conductor`, the process that asks, is in it, it says so with a byte. The answer has the "engine"'s connection in
    it. We end when the launcher does, which holds the other end of `orders`, and gets a byte when there is a
    connection.
    """
    # Without its monitor nothing of this shim is good for anything; the launcher makes another.
    syscalls.prctl(c.PR_SET_PDEATHSIG, signal.SIGKILL)
    ahead = _init_ahead((orders.fileno(), listener.fileno(), asker.fileno()))
    take_own()
    netns = ahead.netns if ahead.ready else userns.network_ahead()
    known = {"netns": netns, "init": ahead.pidfd if ahead.ready else -1}
    known = {name: fd for name, fd in known.items() if fd >= 0}
    message = json.dumps([ahead.others(init=False), list(known)])
    sockets.send_fds(asker, message.encode(), list(known.values()))
    if not asker.recv(1):
        os._exit(0)
    engine = _next_connection(listener, orders, asker, ahead)
    listener.close()
    first = First(asker, engine, conductor, ahead, netns, orders)
    _answer(asker, first.make, [("engine", engine.fileno())])
    first.finish()
    # To end takes a millisecond of a processor, which those may need that go on with the start.
    asker.recv(1)
    os._exit(0)


def _init_ahead(private: tuple[int, ...]) -> InitAhead:
    ahead = InitAhead()
    if userns.installed >= 0:
        try:
            ahead.make(userns.ids, private)
        except (EngineError, OSError):
            ahead.dismiss()  # whoever needs one will be told why
    return ahead


def _next_connection(
    listener: sockets.Socket, orders: sockets.Socket, asker: sockets.Socket, ahead: InitAhead
) -> sockets.Socket:
    poller = select.poll()
    poller.register(listener, select.POLLIN)
    # When one of these says something the launcher has ended, the conductor, or init.
    for other in (orders.fileno(), asker.fileno(), *([ahead.pidfd] if ahead.ready else [])):
        poller.register(other, select.POLLIN)
    while True:
        ready = [fd for fd, _ in poller.poll()]
        if ready != [listener.fileno()]:
            os._exit(0)
        with suppress(BlockingIOError):  # whoever it was has gone
            return sockets.accept(listener)


def _answer(
    asker: sockets.Socket, make: Callable[[], Made], always: Descriptors | None = None
) -> None:
    try:
        message, fds = make()
    except EngineError as error:
        message, fds = {"error": error.payload()}, []
        if isinstance(error, Unwatched):
            message["killed"] = error.pid
    except BaseException as error:  # noqa: BLE001 - the last frame of this process
        failure = EngineError(f"The container's starter failed: {type(error).__name__}: {error}")
        message, fds = {"error": failure.payload()}, []
    fds = [*fds, *(always or ())]
    message["fds"] = [name for name, _ in fds]
    sockets.send_fds(asker, json.dumps(message).encode(), [fd for _, fd in fds])


class First:
    """A first start; `netns` is a network namespace that the process `conductor` is in already, or -1; `orders` as in
    `run_in_reserve`.
    """

    def __init__(
        self,
        asker: sockets.Socket,
        engine: sockets.Socket,
        conductor: int,
        ahead: InitAhead,
        netns: int = -1,
        orders: sockets.Socket | None = None,
    ) -> None:
        self._asker = asker
        self._orders = orders
        self._engine = engine
        self._conductor = conductor
        self._ahead = ahead
        self._netns = netns
        self._raw = b""
        self._trees: dict[int, int] | None = None
        self._control: Descriptors = []

    def make(self) -> Made:
        """Raises EngineError, OSError."""
        self._raw = sockets.receive_line(self._engine)
        if not self._raw:
            raise EngineError("Nobody waits for the container any more.")
        if self._ahead.ready:
            self._ahead.tell(self._raw)
        self._plan: Plan = json.loads(self._raw)
        plan = self._plan
        _check_joined(plan, -1)
        os.makedirs(plan["run_dir"], mode=0o700, exist_ok=True)
        if plan["logs"]["driver"] != "none":
            os.makedirs(f"{plan['bundle']}/logs", mode=0o700, exist_ok=True)
        held = [port.detach() for port in hold_ports(plan["ports"])]
        modes = plan["namespaces"]
        if modes["network"] != "own" or modes["user"] != "own":
            self._netns = -1
        announced = self._netns >= 0
        if announced and plan["wait_for_network"]:
            # The engine's part begins now, and goes on beside ours.
            sockets.send_json(self._engine, {"stage": "netns", "pid": self._conductor})
        try:
            made = self._take_ahead()
        finally:
            self._tell_launcher()
        facts, fds = made or self._fork()
        message = {
            **facts,
            "plan": {name: plan[name] for name in _KEPT},
            "announced": announced,
            "of_reserve": self._trees is not None,
        }
        return message, fds + [("held", fd) for fd in held]

    def _tell_launcher(self) -> None:
        """There is a connection. Not before init has all it needs: they would share a processor."""
        if self._orders is not None:
            with suppress(OSError):
                self._orders.send(b"c")
            self._orders.close()

    def _take_ahead(self) -> Made | None:
        """Give init in reserve the plan, when it has use for it."""
        plan, ahead = self._plan, self._ahead
        if not ahead.ready:
            return None
        if ahead_fits(plan, self._raw):
            with error_context("cgroup"):
                doors = open_cgroup(plan["cgroup"]).doors()
            with suppress(BrokenPipeError):  # it has just died
                ahead.enter(doors)
                with error_context("oom_score_adj"):
                    write_oom_score(plan["oom_score_adj"], ahead.pid)
                ahead.give(plan)
                userns.raise_limits(plan, ahead.pid)
                with _as_steps_of_init():
                    self._trees = userns.take_sources(plan)
        if self._trees is None:
            ahead.dismiss()
            return None
        # Before the conductor is told: init is what a start waits for, and it has all it needs now.
        with _as_steps_of_init(), suppress(BrokenPipeError):  # it has failed already, and said why
            ahead.attach(userns.root_tree(plan), self._trees)
        self._keep_plan()
        if not plan["wait_for_network"]:
            # The monitor knows init already; its conductor, which has a good deal to do, is not waited for.
            listener = ControlSocket(path_of(plan)).listener
            self._control.append(("control", listener.detach()))
            ahead.let_go()
        facts = _facts(plan, ahead.pid, ahead.start_time)
        facts["others"] = ahead.others(init=False)
        fds = [("pidfd", ahead.pidfd), *ahead.kept, ("netns", ahead.netns), *self._control]
        return facts, fds

    def _fork(self) -> Made:
        plan = self._plan
        mapped = _prepare_mapped(plan)
        if not mapped and plan["user_namespace"] is not None:
            self._raw = json.dumps(plan).encode()  # it goes without one
        self._keep_plan()
        private = (self._engine.fileno(), self._asker.fileno())
        facts, fds, namespaces = _make_init(
            self._asker, plan, mapped, self._netns, private, first=True
        )
        facts["others"] = self._ahead.others()
        if namespaces.net >= 0:
            fds.append(("netns", namespaces.net))
        return facts, fds

    def finish(self) -> None:
        """What the conductor has as well, and what init alone is to be heard of."""
        if self._trees is not None:
            self._ahead.release()
        for _, fd in self._control:
            os.close(fd)

    def _keep_plan(self) -> None:
        # For restarts by policy, which a running container may be given later. The run directory is volatile, so
        # there is nothing to sync.
        path = f"{self._plan['run_dir']}/{PLAN_FILE}"
        write_atomic(path, self._raw, mode=0o600, durable=False)


def _make_again(asker: sockets.Socket, run_dir: str, netns: int) -> Made:
    with open(f"{run_dir}/{PLAN_FILE}", "rb") as file:
        plan: Plan = json.loads(file.read())
    _check_joined(plan, netns)
    mapped = _prepare_mapped(plan)
    message, fds, _ = _make_init(asker, plan, mapped, netns, (asker.fileno(),), first=False)
    return message, fds


def _make_init(
    asker: sockets.Socket,
    plan: Plan,
    mapped: bool,
    netns: int,
    private: tuple[int, ...],
    *,
    first: bool,
) -> tuple[dict[str, Any], Descriptors, Namespaces]:
    doors = userns.join(plan, netns, asker) if mapped else None
    namespaces = Namespaces(plan, netns)
    child = spawn(plan, namespaces, first=first, doors=doors, private=private)
    return _facts(plan, child.pid, child.start_time), child.fds, namespaces


def _facts(plan: Plan, pid: int, start_time: int) -> dict[str, Any]:
    return {
        "own_pid_namespace": plan["namespaces"]["pid"] == "own",
        "pid": pid,
        "start_time": start_time,
    }


def _check_joined(plan: Plan, netns: int) -> None:
    """Whose namespaces it shares must be who it was when the plan was made: a pid is used again."""
    for kind, mode in plan["namespaces"].items():
        pid = str(mode).removeprefix("pid:")
        if pid == mode or (kind == "network" and netns >= 0):
            continue
        if not procfs.is_alive(int(pid), plan["joined"][pid]):
            raise EngineError(
                "The container whose namespaces it shares does not run any more.",
                hint="Start that one, then this one.",
            )


def _prepare_mapped(plan: Plan) -> bool:
    """Whether the container gets a user namespace; then all is done that it takes the host's root for."""
    if not userns.wanted(plan):
        return False
    with _as_steps_of_init():
        return userns.prepare(plan)


@contextmanager
def _as_steps_of_init() -> Iterator[None]:
    """Without a user namespace it would be init that does this, and fails."""
    try:
        with error_context("mounts"):
            yield
    except Unsupported:
        raise
    except EngineError as error:
        raise as_init_failed(error) from error
