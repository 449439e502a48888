"""`slipway up`: from a fresh machine to a page that answers."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

from workers.supervisor import console, environment, packages, prepare, state
from workers.supervisor.instance import Instance
from workers.supervisor.processes import platform
from workers.supervisor.supervise import Supervisor

# Longer than the sum of the processes' own grace periods.
_PATIENCE = 45.0  # seconds


def up(instance: Instance) -> int:
    """Run the platform until it is told to stop. Raises what its steps raise."""
    os.umask(0o022)
    instance.config.run.mkdir(parents=True, exist_ok=True)
    lock = state.Lock(instance.lock_file)
    if not lock.take() and not _outwaited(instance, lock):
        running = state.load(instance)
        where = f" at {running.url}" if running else ""
        console.say(f"The instance {instance.config.name} is already up{where}; nothing to do.")
        return 0
    _install(instance)
    prepare.users()
    prepare.directories(instance)
    prepare.keys(instance)
    environment.code_is_readable()
    environment.compile_code()
    listener = _listen(instance)
    prepare.database(instance)
    Supervisor(instance, platform(instance), lambda: _greet(instance)).run(listener)
    console.say("The platform is down.")
    return 0


def _outwaited(instance: Instance, lock: state.Lock) -> bool:
    """Whether the platform that is up was just going down, and now is."""
    running = state.load(instance)
    if running is None or not running.ending:
        return False
    console.step("Waiting for the platform to go down")
    return lock.wait(_PATIENCE)


def _install(instance: Instance) -> None:
    if shutil.which("apt-get"):
        packages.ensure(packages.RUN)
    elif not Path("/etc/debian_version").exists():
        console.say(
            "This is not Debian, so nothing is installed; "
            f"it is on you that there are: {', '.join(packages.RUN)}."
        )
    environment.ensure(instance, environment.BASE_LOCK)


def _listen(instance: Instance) -> socket.socket:
    """The web socket, opened first of all: a taken port ends `up` before anything is started."""
    family = socket.AF_INET6 if ":" in instance.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((instance.host, instance.port))
    except OSError as error:
        listener.close()
        raise prepare.PrepareFailed(
            f"Cannot listen on {instance.host} port {instance.port}: {error.strerror}. "
            "Choose another with SLIPWAY_PORT or SLIPWAY_LISTEN."
        ) from error
    listener.listen(512)
    listener.setblocking(False)
    return listener


def _greet(instance: Instance) -> None:
    console.say()
    console.say(f"  Slipway is up: {console.paint(instance.url, 'bold')}")
    if instance.host in ("127.0.0.1", "::1"):
        port = instance.port
        console.say(
            f"  It answers this host alone. From elsewhere: ssh -L {port}:127.0.0.1:{port} this-host, "
            f"or SLIPWAY_LISTEN=0.0.0.0:{port} behind a proxy with TLS."
        )
    console.say("  Ctrl-C stops the platform; containers go on.")
    console.say()
