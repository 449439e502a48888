"""The fork server: `python -m runtime.launcher`. Forks one shim per connection, and does nothing else.

Everything a shim needs is imported here, once, and shared with every shim by copy-on-write. It stays
single-threaded, so a fork is safe at any moment. Containers do not notice its death.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from types import FrameType

import runtime.cgroups.v1
import runtime.cgroups.v2
import runtime.shim.main
from runtime.cgroups.shims import enter_shims
from runtime.store.paths import Config


def main() -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit status."""
    config = Config.from_env()
    _leave_unit(config)
    listener = _listen(config)
    # Children are reaped by the kernel; a shim turns this back for its own.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    # What is loaded now is never collected, so that no collector writes to shared pages.
    gc.collect()
    gc.disable()
    gc.freeze()
    print("launcher ready", flush=True)
    try:
        while True:
            channel, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                runtime.shim.main.run_shim(channel)
            channel.close()
    except KeyboardInterrupt:
        return 0
    finally:
        config.launcher_socket.unlink(missing_ok=True)


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _listen(config: Config) -> socket.socket:
    path = config.launcher_socket
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


def _leave_unit(config: Config) -> None:
    """Go to a cgroup of our own, which shims inherit (see `enter_shims`)."""
    for root in enter_shims(config.cgroup):
        print(f"launcher: shims stay in this service's group below {root}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
