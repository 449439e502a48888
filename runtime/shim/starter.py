"""The short-lived process that makes a container's init: reads the plan, takes ports, forks.

It ends as soon as init exists. What starting costs in memory (the plan, the mount steps, the pages that all
that code touches) goes with it; the monitor, which stays for the life of the container, never loads any of
it. Init is forked as the monitor's child, not as the starter's.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, NoReturn

from runtime.errors import EngineError, Unsupported, error_context
from runtime.kernel import procfs
from runtime.shim import sockets, userns
from runtime.shim.init import as_init_failed
from runtime.shim.namespaces import Namespaces
from runtime.shim.ports import hold_ports
from runtime.shim.spawn import Unwatched, spawn
from runtime.store.files import write_atomic

if TYPE_CHECKING:
    from runtime.model.plan import Plan

    Descriptors = list[tuple[str, int]]  # by name

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


def run_starter(asker: sockets.Socket, ahead: int = -1) -> NoReturn:
    """Wait for the order, fork init and hand it over: one message with descriptors, or one with an error, and
    the pid of an init that was "killed".

    For a first start (start.py) the order is {"engine": pid}, with the engine's connection, on which the plan
    comes; that process is in the namespace `ahead`, a network namespace made before its container was known.
    For another start it is {"run_dir"}, where the first has left the plan, with the container's network
    namespace if it has one. Never returns.
    """
    data, given = sockets.recv_fds(asker, _MAX_ORDER, 1)
    if not data:
        os._exit(0)  # nobody was ever asked for a container
    fds: Descriptors = []
    try:
        order = json.loads(data)
        if "engine" in order:
            engine = sockets.adopt(given[0])
            message, fds = _make_first(asker, engine, order["engine"], ahead)
        else:
            message, fds = _make_again(asker, order["run_dir"], given[0] if given else -1)
        message["fds"] = [name for name, _ in fds]
    except EngineError as error:
        message = {"error": error.payload()}
        if isinstance(error, Unwatched):
            message["killed"] = error.pid
    except BaseException as error:  # noqa: BLE001 - the last frame of this process
        failure = EngineError(f"The container's starter failed: {type(error).__name__}: {error}")
        message = {"error": failure.payload()}
    sockets.send_fds(asker, json.dumps(message).encode(), [fd for _, fd in fds])
    os._exit(0)


def run_in_reserve(asker: sockets.Socket) -> NoReturn:
    """As `run_starter`, with what can be done before the order. First comes a message b"-" with the network
    namespace that most containers have use for, or without one.
    """
    ahead = userns.network_ahead()
    sockets.send_fds(asker, b"-", [ahead] if ahead >= 0 else [])
    run_starter(asker, ahead)


def _make_first(
    asker: sockets.Socket, engine: sockets.Socket, conductor: int, ahead: int
) -> tuple[dict[str, Any], Descriptors]:
    raw = sockets.receive_line(engine)
    if not raw:
        raise EngineError("Nobody waits for the container any more.")
    plan: Plan = json.loads(raw)
    _check_joined(plan, -1)
    os.makedirs(plan["run_dir"], mode=0o700, exist_ok=True)
    held = [port.detach() for port in hold_ports(plan["ports"])]
    modes = plan["namespaces"]
    netns = ahead if modes["network"] == modes["user"] == "own" else -1
    if netns >= 0 and plan["wait_for_network"]:
        # The engine's part begins now, and goes on beside ours.
        sockets.send_json(engine, {"stage": "netns", "pid": conductor})
    mapped = _prepare_mapped(plan)
    if not mapped and plan["user_namespace"] is not None:
        raw = json.dumps(plan).encode()  # it goes without one
    # For restarts by policy, which a running container may be given later. The run directory is volatile, so
    # there is nothing to sync.
    write_atomic(f"{plan['run_dir']}/{PLAN_FILE}", raw, mode=0o600, durable=False)
    private = (engine.fileno(), asker.fileno())
    message, fds, namespaces = _make_init(asker, plan, mapped, netns, private, first=True)
    message["plan"] = {name: plan[name] for name in _KEPT}  # type: ignore[literal-required]
    message["announced"] = netns >= 0
    if namespaces.net >= 0:
        fds.append(("netns", namespaces.net))
    return message, fds + [("held", fd) for fd in held]


def _make_again(
    asker: sockets.Socket, run_dir: str, netns: int
) -> tuple[dict[str, Any], Descriptors]:
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
    facts = {
        "own_pid_namespace": plan["namespaces"]["pid"] == "own",
        "pid": child.pid,
        "start_time": child.start_time,
    }
    return facts, child.fds, namespaces


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
    try:
        with error_context("mounts"):
            return userns.prepare(plan)
    except Unsupported:
        raise
    except EngineError as error:
        # Without a user namespace these are init's steps, and fail as such.
        raise as_init_failed(error) from error
