"""Start the fork server: `python -m runtime.launcher`, its instance in the environment (Config).

What needs the project's larger modules is done here, once; then the process becomes a bare interpreter
that holds the socket (`runtime.launcher.server`): each page it has is copied by reference for every
container, and a third of them would be for reading the settings.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from runtime.cgroups.shims import enter_shims
from runtime.launcher.interpreter import execute_sealed
from runtime.launcher.userns import install
from runtime.store.paths import Config

_SERVE = "from runtime.launcher.server import main; main()"


def main() -> None:
    """Never returns."""
    config = Config.from_env()
    # A group of our own, which shims inherit: what stops our service must not stop them.
    for root in enter_shims(config.cgroup):
        sys.stderr.write(f"launcher: shims stay in this service's group below {root}\n")
    namespace = install(config)
    if namespace >= 0:
        os.set_inheritable(namespace, True)
    descriptor = listen(config.launcher_socket).detach()
    os.set_inheritable(descriptor, True)
    sys.stderr.flush()
    # -S: none of the site's packages. Not -m: that imports a good deal to find one module.
    first, count = config.ids or (0, 0)
    arguments = (descriptor, config.launcher_socket, config.run, namespace, first, count)
    options = ["-S", "-c", _SERVE, *map(str, arguments)]
    execute_sealed(sys.executable, options)


def listen(path: Path) -> socket.socket:
    """A socket at `path` that only root reaches, in place of one that an earlier launcher left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(mask)
    listener.listen(256)
    return listener


if __name__ == "__main__":
    main()
