"""Do once in the launcher what every monitor will do, so that monitors share the memory it takes.

The interpreter rewrites code as it runs (PEP 659), fills caches, and leaves holes in its arenas that the
next allocations fall into. Done before the fork, these pages stay shared; done after it, each monitor
copies them: that is most of what a monitor would cost.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any, NoReturn

from runtime.kernel import procfs, syscalls
from runtime.shim import handover, sockets
from runtime.shim.control import ControlSocket
from runtime.shim.life import Starter
from runtime.shim.main import live
from runtime.shim.record import Record
from runtime.shim.sockets import Socket

_ROUNDS = (
    5  # with either version of control groups; the interpreter specialises code after eight runs
)

_TRIES = 3  # of a removal: not every error comes again

# Of pymalloc (Objects/obmalloc.c), in bytes.
_POOL, _POOL_HEADER, _BYTES_HEADER = 16384, 48, 33
_SIZE_CLASSES = range(48, 513, 16)
_MOST = 5000  # holes of one class

# Kept for good: what fills the holes must stay where it is.
_ballast: list[object] = []


def rehearse(run: str) -> None:
    """Live the monitor's life in a directory of our own below `run`, then fill the allocator's holes.

    Raises EngineError, OSError.
    """
    directory = f"{run}/rehearsal-{os.getpid()}"
    os.mkdir(directory)
    try:
        with _name_kept():
            for _ in range(_ROUNDS):
                for version in ("v1", "v2"):
                    _live(directory, version)
    finally:
        _remove(directory)
    for size in _SIZE_CLASSES:
        _fill(size)


def _fill(size: int) -> None:
    """Take what is free in the pools of one size class, until the next object is the first of a pool."""
    for _ in range(_MOST):
        filler = bytes(size - _BYTES_HEADER)
        if id(filler) % _POOL == _POOL_HEADER:
            return
        _ballast.append(filler)


@contextmanager
def _name_kept() -> Iterator[None]:
    """A monitor gives itself its container's name."""
    with open("/proc/self/comm", "rb") as file:
        name = file.read()
    yield
    with open("/proc/self/comm", "wb") as file:
        file.write(name)


def _remove(directory: str) -> None:
    """Nobody else takes it for abandoned while this process lives."""
    for last in (False,) * (_TRIES - 1) + (True,):
        try:
            _remove_tree(directory)
            return
        except OSError:
            if last:
                raise


def _remove_tree(directory: str) -> None:
    for path, directories, files in os.walk(directory, topdown=False):
        for name in files:
            os.unlink(f"{path}/{name}")
        for name in directories:
            os.rmdir(f"{path}/{name}")
    os.rmdir(directory)


def _live(directory: str, version: str) -> None:
    """One life, of a process that says a word and ends."""
    with closing(sockets.receiver(f"{directory}/events.sock")):
        live(Starter(partial(_play_start, directory, version)))
    os.unlink(f"{directory}/events.sock")


def _play_start(directory: str, version: str, to_monitor: Socket) -> NoReturn:
    """What runtime.shim.start does, as the monitor sees it."""
    try:
        starter = syscalls.fork_sibling()
        if starter == 0:
            os._exit(0)
        out, say = os.pipe2(os.O_CLOEXEC)
        pid = syscalls.fork_sibling()
        if pid == 0:
            os.write(say, b"rehearsal\n")
            os._exit(0)
        pidfd = os.pidfd_open(pid)
        sockets.send_fds(to_monitor, handover.pack_init(starter), [pidfd])
        plan = _plan(directory, version)
        record = Record(plan, shim=os.getppid())
        record.save("started", status="running", started_at=time.time(), pid=pid)
        message = {
            "plan": plan,
            "oom_kills": 0,
            "life": {"own_pid_namespace": True, "pid": pid, "start_time": 0},
        }
        control = ControlSocket(f"{directory}/shim.sock")
        watched = [("pidfd", pidfd), ("out", out), ("control", control.listener.fileno())]
        data, fds = handover.pack(message, record.written, watched, [])
        sockets.send_fds(to_monitor, data, fds)
    finally:
        os._exit(0)


def _plan(directory: str, version: str) -> dict[str, Any]:
    return {
        "id": "0" * 64,
        "bundle": directory,
        "run_dir": directory,
        "boot_id": procfs.boot_id(),
        "cgroup": {
            "version": version,
            "paths": dict.fromkeys(("memory", "pids", "cpu"), f"{directory}/none"),
        },
        "events_socket": f"{directory}/events.sock",
        "health": None,
        "logs": {"driver": "file", "max_size": 1 << 20, "max_files": 3, "non_blocking": False},
        "restart": {"name": "no", "max_retries": 0},
        "restart_count": 0,
        "stop_signal": 15,
        "stop_timeout": 10,
    }
