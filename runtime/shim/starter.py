"""The short-lived process that makes a container's init: reads the plan, takes ports, forks.

It is a child of the monitor and ends as soon as init exists. What starting costs in memory (the plan, the
mount steps, the pages that all that code touches) goes with it; the monitor, which stays for the life
of the container, never loads any of it. Init is forked as the monitor's child, not as the starter's.
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
from runtime.shim.spawn import spawn
from runtime.store.files import write_atomic

if TYPE_CHECKING:
    from runtime.model.plan import Plan

PLAN_FILE = "plan.json"
_MAX_ORDER = 1 << 14  # bytes
_CHUNK = 1 << 16
# What the monitor keeps of a plan.
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


def run_starter(to_monitor: sockets.Socket, ahead: int = -1) -> NoReturn:
    """Wait for the order, fork init and hand it to the monitor: one message with descriptors, or one with
    an error.

    The order is {"run_dir"}: "" for a first start, with the engine's connection, on which the plan comes;
    or where an earlier start has left the plan, with the container's network namespace if it has one.
    `ahead` is a network namespace made for it before it was known. Never returns.
    """
    data, given = sockets.recv_fds(to_monitor, _MAX_ORDER, 1)
    if not data:
        os._exit(0)  # the monitor was never asked for a container
    try:
        message, fds = _start(to_monitor, json.loads(data)["run_dir"], given, ahead)
    except EngineError as error:
        message, fds = {"error": error.payload()}, []
    except BaseException as error:  # noqa: BLE001 - the last frame of this process
        failure = EngineError(f"The container's starter failed: {type(error).__name__}: {error}")
        message, fds = {"error": failure.payload()}, []
    sockets.send_fds(to_monitor, json.dumps(message).encode(), fds)
    os._exit(0)


def run_in_reserve(to_monitor: sockets.Socket) -> NoReturn:
    """As `run_starter`, with all done that can be done before the order."""
    run_starter(to_monitor, userns.network_ahead())


def _start(
    to_monitor: sockets.Socket, run_dir: str, given: list[int], ahead: int
) -> tuple[dict[str, Any], list[int]]:
    first, netns = not run_dir, -1
    if first:
        channel = sockets.adopt(given[0])
        raw = receive_line(channel)
        channel.close()
        if not raw:
            raise EngineError("Nobody waits for the container any more.")
    else:
        netns = given[0] if given else -1
        with open(f"{run_dir}/{PLAN_FILE}", "rb") as file:
            raw = file.read()
    plan: Plan = json.loads(raw)
    _check_joined(plan, netns)
    held: list[int] = []
    if first:
        os.makedirs(plan["run_dir"], mode=0o700, exist_ok=True)
        held = [channel.detach() for channel in hold_ports(plan["ports"])]
    mapped = _prepare_mapped(plan)
    if first:
        if not mapped and plan["user_namespace"] is not None:
            raw = json.dumps(plan).encode()  # it goes without one
        # For restarts by policy, which a running container may be given later. The run directory is
        # volatile, so there is nothing to sync.
        write_atomic(f"{plan['run_dir']}/{PLAN_FILE}", raw, mode=0o600, durable=False)
    if mapped and netns < 0 and plan["namespaces"]["user"] == "own":
        netns = ahead
    doors = userns.join(plan, netns, to_monitor) if mapped else None
    namespaces = Namespaces(plan, netns)
    child = spawn(plan, namespaces, first=first, doors=doors)
    kept = {name: plan[name] for name in _KEPT}  # type: ignore[literal-required]
    message = {
        "plan": kept if first else None,
        "own_pid_namespace": plan["namespaces"]["pid"] == "own",
        "pid": child.pid,
        "start_time": procfs.start_time(child.pid),
        "fds": [name for name, _ in child.fds],
        "has_netns": namespaces.net >= 0,
        "held": len(held),
    }
    fds = [fd for _, fd in child.fds]
    if namespaces.net >= 0:
        fds.append(namespaces.net)
    return message, fds + held


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


def receive_line(channel: sockets.Socket) -> bytes:
    """One line; b"" when the other side has gone. Nothing follows a line unasked, so none is cut."""
    data = b""
    while not data.endswith(b"\n"):
        chunk = channel.recv(_CHUNK)
        if not chunk:
            return b""
        data += chunk
    return data


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
