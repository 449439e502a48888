"""`slipway down`: end the platform and, when told, its containers and what they leave in the kernel."""

from __future__ import annotations

import os
import select
import signal
import subprocess

from runtime.kernel.procfs import is_alive
from workers.supervisor import console, prepare, state
from workers.supervisor.instance import CHECKOUT, Instance

# Longer than the sum of the processes' own grace periods.
_PATIENCE = 45.0  # seconds


def down(instance: Instance, *, containers: bool) -> int:
    """0 when what was asked is so, also when it was so before. Raises PrepareFailed."""
    running = state.load(instance)
    if running is None:
        console.say(f"The platform of the instance {instance.config.name} is not up.")
    else:
        _end(running)
        console.say("The platform is down.")
    if not containers:
        return 0
    if not instance.python.exists():
        console.say("No container was ever made.")
        return 0
    done = subprocess.run(
        [instance.python, "-m", "workers.supervisor.teardown"],
        cwd=CHECKOUT,
        env=instance.root_env(),
        check=False,
    )
    return done.returncode


def _end(running: state.SupervisorState) -> None:
    try:
        fd = os.pidfd_open(running.pid)
    except ProcessLookupError:
        return
    try:
        # The pidfd holds on to one process; only now is it known to be the right one.
        if not is_alive(running.pid, running.start_time):
            return
        signal.pidfd_send_signal(fd, signal.SIGTERM)
        if not select.select([fd], [], [], _PATIENCE)[0]:
            raise prepare.PrepareFailed(
                f"The supervisor (pid {running.pid}) has not ended within {_PATIENCE:.0f} s."
            )
    finally:
        os.close(fd)
