"""A shim's life, from the launcher's fork to its container's end."""

from __future__ import annotations

import gc
import json
import os
from contextlib import suppress
from typing import Any, NoReturn

from runtime.errors import EngineError
from runtime.shim import sockets
from runtime.shim.life import Life, Starter
from runtime.shim.monitor import Monitor
from runtime.shim.starter import receive_line, run_in_reserve


def run_spare(orders: sockets.Socket) -> NoReturn:
    """Be the shim of the first connection that comes over `orders`, with all done that can be done before.

    Never returns; ends when the launcher does.
    """
    try:
        _detach()
        _name("spare")
        starter = Starter(orders, run=run_in_reserve)
        _, fds = sockets.recv_fds(orders, 1, 1)
        if not fds:
            os._exit(0)
        orders.close()
        run_shim(sockets.adopt(fds[0]), starter)
    finally:
        os._exit(1)


def run_shim(channel: sockets.Socket, starter: Starter | None = None) -> NoReturn:
    """Take the plan from `channel`, start the container, answer, and stay with it. Never returns."""
    try:
        if starter is None:
            _detach()
            starter = Starter()
        monitor = start_monitor(channel, starter)
        if monitor is not None:
            # The launcher's is a pipe to its supervisor, which must see its end when the launcher ends.
            os.dup2(0, 2)
            _watch(monitor)
        os._exit(0)
    except BaseException as error:  # noqa: BLE001 - the last frame of this process
        with suppress(OSError):
            os.write(2, f"shim: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(1)


def _watch(monitor: Monitor) -> None:
    """Stay with the container. A fault of the monitor's own is left where the engine finds its state."""
    try:
        monitor.run()
    except BaseException:
        import traceback  # noqa: PLC0415 - nothing that a monitor in order needs

        path = f"{monitor.plan['run_dir']}/shim.log"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.write(fd, traceback.format_exc().encode())
        os.close(fd)
        raise


def _detach() -> None:
    """Be nobody's child in spirit: what ends the platform's group must not end containers.

    The launcher has blocked the signals and made us non-dumpable before the fork, where it costs no
    monitor a page of its own.
    """
    os.setsid()
    os.chdir("/")
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    gc.enable()


def start_monitor(channel: sockets.Socket, starter: Starter) -> Monitor | None:
    """The monitor of a running container, or None: the start failed and nothing is left of it."""
    try:
        life = Life(starter, channel=channel)
        # The engine's part begins now, and goes on beside ours.
        _send(channel, {"stage": "netns", "pid": life.pid})
        monitor = Monitor(life)
    except (EngineError, OSError) as error:
        told = error if isinstance(error, EngineError) else _own_failure(error)
        _send(channel, {"stage": "failed", "error": told.payload()})
        return None
    _name(monitor.plan["id"])
    if (failure := _prepare(monitor)) is not None:
        _send(channel, {"stage": "failed", "error": failure.payload()})
        return None
    if monitor.plan["wait_for_network"] and not receive_line(channel):
        # The engine has gone or given up: it undoes its side, this is ours.
        monitor.abandon()
        return None
    if (failure := _begin(monitor)) is not None:
        _send(channel, {"stage": "failed", "error": failure.payload()})
        return None
    _send(channel, {"stage": "running", "state": monitor.record.state})
    channel.close()
    return monitor


def _prepare(monitor: Monitor) -> EngineError | None:
    try:
        monitor.prepare()
    except OSError as error:
        return _abandoned(monitor, error)
    return None


def _begin(monitor: Monitor) -> EngineError | None:
    try:
        return monitor.begin()
    except OSError as error:
        return _abandoned(monitor, error)


def _abandoned(monitor: Monitor, error: OSError) -> EngineError:
    monitor.abandon()
    return _own_failure(error)


def _own_failure(error: OSError) -> EngineError:
    return EngineError(f"The container's monitor failed: {error}")


def _name(whose: str) -> None:
    """What `ps` and `top` show: the container's id, or that there is none yet."""
    with suppress(OSError):
        fd = os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, f"slw-{whose[:11]}".encode())
        os.close(fd)


def _send(channel: sockets.Socket, message: dict[str, Any]) -> None:
    try:
        channel.sendall(json.dumps(message).encode() + b"\n")
    except OSError:
        pass  # nobody waits any more; the state on disk tells
