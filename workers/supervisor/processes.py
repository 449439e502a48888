"""Which processes make up the platform, and how each is started."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from workers.supervisor.instance import CHECKOUT, REDIS_USER, WEB_USER, Instance

# A broker's working set is small: messages are ids. Beyond this something is wrong, and refusing writes
# (which makes the operations wait in the database) is better than eating the host's memory.
_REDIS_MEMORY = "64mb"

# What Redis says at every start and end, whatever its log level. Overcommit matters to those who save to disk.
_REDIS_NOISE = (
    " # (oO0OoO0|Redis version|Configuration loaded|Server initialized|"
    "WARNING Memory over|User requested shutdown|Redis is now ready)|Received SIGTERM"
)

# How the web process learns its inherited descriptors: the listening socket, and the pipe that says "ready".
LISTEN_FD = "SLIPWAY_LISTEN_FD"
READY_FD = "SLIPWAY_READY_FD"


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the platform.

    `user` "" is root. `sees_app` puts it in a mount namespace of its own, where the checkout lies
    read-only at Instance.app: the checkout may be in a directory that only root can enter.
    `stop_order` ascending is the order of ending; `stop_timeout` is in seconds, then SIGKILL.
    """

    name: str
    colour: str
    argv: Sequence[str]
    env: Mapping[str, str]
    executable: str = ""  # argv[0] unless given
    user: str = ""
    sees_app: bool = False
    noise: str = ""  # a regular expression; lines that it finds are not shown
    listens: bool = False  # gets the listening socket and the ready pipe
    stop_order: int = 0
    stop_timeout: float = 10.0
    cwd: str = field(default=str(CHECKOUT))


def platform(instance: Instance) -> list[Process]:
    """The processes of an instance, in the order of starting."""
    python = str(instance.python)
    root = instance.root_env()
    # They serve no pages: workers/settings.py.
    working = root | {"DJANGO_SETTINGS_MODULE": "workers.settings"}
    processes = [
        Process(
            name="web",
            colour="green",
            argv=[str(instance.app_python), "-m", "workers.supervisor.serve"],
            env=instance.web_env(),
            user=WEB_USER,
            sees_app=True,
            listens=True,
            cwd=str(instance.app),
            stop_timeout=5.0,
        ),
        Process(
            name="launcher",
            colour="magenta",
            # Without site-packages: every shim is a fork of it, and it needs none of them.
            argv=[python, "-S", "-m", "runtime.launcher"],
            env=root,
            stop_order=2,
        ),
        Process(
            name="worker",
            colour="yellow",
            argv=[python, "-m", "workers"],
            env=working,
            stop_order=1,
        ),
        Process(
            name="watcher",
            colour="cyan",
            argv=[python, "-m", "workers.watcher"],
            env=working,
            stop_order=1,
        ),
        Process(
            name="resolver",
            colour="blue",
            argv=[python, "-m", "runtime.network.resolver"],
            env=root,
            stop_order=2,
        ),
    ]
    if instance.own_redis:
        processes.insert(0, _redis(instance))
    return processes


def _redis(instance: Instance) -> Process:
    """A private Redis on a unix socket: no port, nothing on disk; what it holds is never the truth."""
    options = {
        "port": "0",
        "unixsocket": str(instance.config.redis_socket),
        "unixsocketperm": "770",
        "dir": str(instance.config.redis_socket.parent),
        "save": "",
        "appendonly": "no",
        "maxmemory": _REDIS_MEMORY,
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "loglevel": "warning",
        # An idle Redis should be idle.
        "hz": "1",
    }
    argv = ["redis-server"]
    for name, value in options.items():
        argv += [f"--{name}", value]
    return Process(
        name="redis",
        colour="red",
        argv=argv,
        env=instance.web_env(),
        executable=redis_executable(),
        user=REDIS_USER,
        stop_order=3,
        noise=_REDIS_NOISE,
        cwd="/",
    )


def redis_executable() -> str:
    """Debian's redis-tools holds the server's binary under another name, without the system service.

    The program is redis-server when it is called so: /usr/bin/redis-server is a link to the same file.
    Returns "" when neither is installed.
    """
    return shutil.which("redis-server") or shutil.which("redis-check-rdb", path=_PATH) or ""


_PATH = os.pathsep.join(("/usr/local/bin", "/usr/bin", "/bin"))
