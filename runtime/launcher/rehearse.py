"""Do once in the launcher what every monitor will do, so that monitors share the memory it takes.

The interpreter rewrites code as it runs (PEP 659), fills caches, and leaves holes in its arenas that the
next allocations fall into. Done before the fork, these pages stay shared; done after it, each monitor
copies them: that is most of what a monitor would cost.
"""

from __future__ import annotations

import json
import os
import select
import time

from runtime.cgroups import open_cgroup
from runtime.kernel import procfs
from runtime.shim.control import ControlSocket
from runtime.shim.policy import RestartPolicy
from runtime.shim.record import Record
from runtime.store.logs import STDOUT, LogWriter

_ROUNDS = 10  # the interpreter specialises code after eight runs
_FILL = range(1, 480, 16)  # bytes: with its header, one of each of pymalloc's size classes
_EACH = 200

# Kept for good: what fills the holes must stay where it is.
_ballast: list[object] = []


def rehearse(run: str) -> None:
    """Run the monitor's ordinary steps in a directory of our own below `run`, then fill the allocator's
    holes.
    """
    directory = f"{run}/rehearsal-{os.getpid()}"
    os.mkdir(directory)
    try:
        for _ in range(_ROUNDS):
            _steps(directory)
    finally:
        _remove(directory)
    _ballast.extend([bytes(size) for _ in range(_EACH)] for size in _FILL)


def _remove(directory: str) -> None:
    for path, directories, files in os.walk(directory, topdown=False):
        for name in files:
            os.unlink(f"{path}/{name}")
        for name in directories:
            os.rmdir(f"{path}/{name}")
    os.rmdir(directory)


def _steps(directory: str) -> None:
    plan = {
        "id": "0" * 64,
        "bundle": directory,
        "run_dir": directory,
        "boot_id": procfs.boot_id(),
        "events_socket": f"{directory}/nobody.sock",
        "restart_count": 0,
    }
    record = Record(json.loads(json.dumps(plan)))
    record.save("started", status="running", started_at=time.time())
    record.append_exit({"code": 0, "reason": "exited"})
    logs = LogWriter(f"{directory}/logs", 1 << 20, 3)
    logs.write(STDOUT, b"rehearsal\n")
    logs.close()
    for paths in ({"memory": f"{directory}/none", "pids": f"{directory}/none"},):
        for version in ("v1", "v2"):
            group = open_cgroup({"version": version, "paths": paths})
            group.oom_kills()
    RestartPolicy({"name": "always"}).next_delay(0, 1.0)
    control = ControlSocket(f"{directory}/shim.sock")
    poller = select.poll()
    poller.register(control.listener.fileno(), select.POLLIN)
    poller.poll(0)
    control.accept()
    control.retire()
    control.close()
