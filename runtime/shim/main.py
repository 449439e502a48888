"""A shim's life, from the launcher's fork to its container's end."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
from typing import Any, NoReturn

from runtime.errors import EngineError
from runtime.kernel import constants as c
from runtime.kernel import syscalls
from runtime.model.codec import to_json
from runtime.model.plan import Plan
from runtime.shim.monitor import Monitor

_MAX_PLAN = 8 << 20  # bytes


def run_shim(channel: socket.socket) -> NoReturn:
    """Read the plan from `channel`, start the container, answer, and stay with it. Never returns."""
    code = 1
    try:
        _detach()
        monitor = _start(channel)
        if monitor is not None:
            monitor.run()
        code = 0
    except BaseException as error:  # noqa: BLE001 - the last frame of this process
        os.write(2, f"shim: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


def _detach() -> None:
    """Be nobody's child in spirit: a signal to the platform's terminal or group must not end containers."""
    os.setsid()
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir("/")
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    # What joins a container later must not be inspected from inside (CVE-2016-9962).
    syscalls.prctl(c.PR_SET_DUMPABLE, 0)
    syscalls.prctl(c.PR_SET_PDEATHSIG, 0)
    gc.enable()


def _start(channel: socket.socket) -> Monitor | None:
    stream = channel.makefile("rb")
    line = stream.readline(_MAX_PLAN)
    if not line:
        return None
    plan: Plan = json.loads(line)
    _name(plan["id"])
    monitor = Monitor(plan)
    try:
        pid = monitor.prepare()
        _send(channel, {"stage": "netns", "pid": pid})
        if plan["wait_for_network"] and not stream.readline(1024):
            # The engine has gone or given up: it undoes its side, this is ours.
            monitor.abandon()
            return None
        monitor.begin()
    except EngineError as error:
        monitor.abandon()
        _send(channel, {"stage": "failed", "error": error.payload()})
        return None
    except OSError as error:
        monitor.abandon()
        failure = EngineError(f"The container's monitor failed: {error}", path=error.filename or "")
        _send(channel, {"stage": "failed", "error": failure.payload()})
        return None
    _send(channel, {"stage": "running", "state": to_json(monitor.record.state())})
    stream.close()
    channel.close()
    return monitor


def _name(container_id: str) -> None:
    """What `ps` and `top` show."""
    try:
        with open("/proc/self/comm", "w", encoding="ascii") as file:
            file.write(f"slw-{container_id[:11]}")
    except OSError:
        pass


def _send(channel: socket.socket, message: dict[str, Any]) -> None:
    try:
        channel.sendall(json.dumps(message).encode() + b"\n")
    except OSError:
        pass  # nobody waits any more; the state on disk tells
