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
from contextlib import suppress
from types import FrameType

import runtime.cgroups.v1
import runtime.cgroups.v2
import runtime.shim.main
from runtime.cgroups.shims import enter_shims
from runtime.errors import EngineError
from runtime.kernel import constants as c
from runtime.kernel import syscalls
from runtime.launcher.rehearse import rehearse
from runtime.store.paths import Config

_NOT_FOR_SHIMS = (
    signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM
)  # fmt: skip


def main() -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit status."""
    config = Config.from_env()
    _leave_unit(config)
    listener = _listen(config)
    signal.signal(signal.SIGCHLD, _reap)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    # A process inside a container must not be able to look into one that joins it (CVE-2016-9962).
    syscalls.prctl(c.PR_SET_DUMPABLE, 0)
    try:
        rehearse(config)
    except (EngineError, OSError) as error:
        _say(f"launcher: monitors will take more memory, for the rehearsal failed: {error}")
    # What is loaded now is never collected, so that no collector writes to shared pages.
    gc.collect()
    gc.disable()
    gc.freeze()
    _say("launcher ready")
    try:
        while True:
            channel, _ = listener.accept()
            # A shim keeps them blocked: it reaps its own child, and outlives what ends the platform.
            signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_FOR_SHIMS)
            if os.fork() == 0:
                listener.close()
                runtime.shim.main.run_shim(channel)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _NOT_FOR_SHIMS)
            channel.close()
    except KeyboardInterrupt:
        return 0
    finally:
        config.launcher_socket.unlink(missing_ok=True)


def _reap(_number: int, _frame: FrameType | None) -> None:
    """Collect shims that have ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


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


def _say(text: str) -> None:
    """A line for the supervisor's log."""
    os.write(2, text.encode() + b"\n")


def _leave_unit(config: Config) -> None:
    """Go to a cgroup of our own, which shims inherit (see `enter_shims`)."""
    for root in enter_shims(config.cgroup):
        _say(f"launcher: shims stay in this service's group below {root}")


if __name__ == "__main__":
    sys.exit(main())
