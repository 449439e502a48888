"""The fork server: `python -m runtime.launcher`. Forks one shim per connection, and does nothing else.

Everything a shim needs is imported here, once, and shared with every shim by copy-on-write. It stays
single-threaded, so a fork is safe at any moment. Containers do not notice its death.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

import runtime.cgroups.v1
import runtime.cgroups.v2
import runtime.shim.main
from runtime.cgroups.shims import enter_shims
from runtime.errors import EngineError, KernelFailure
from runtime.kernel import constants as c
from runtime.kernel import syscalls
from runtime.launcher.rehearse import rehearse
from runtime.store.paths import Config

_NOT_FOR_SHIMS = (
    signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM
)  # fmt: skip
_PAUSE = 0.2  # seconds before accepting again, when that has failed


def main() -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit status."""
    config = Config.from_env()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        _leave_unit(config)
        with Listener(config.launcher_socket) as listener:
            _prepare(config)
            _say("launcher ready")
            while True:
                _serve(listener)
    except KeyboardInterrupt:
        return 0


def _prepare(config: Config) -> None:
    """Everything that is better done once, here, than in every shim."""
    signal.signal(signal.SIGCHLD, _reap)
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


def _serve(listener: Listener) -> None:
    """Fork one shim. A host out of processes, memory or descriptors costs this start, not the launcher."""
    try:
        channel = listener.accept()
    except OSError as error:
        _say(f"launcher: cannot accept: {error.strerror}")
        time.sleep(_PAUSE)
        return
    # A shim keeps them blocked: it reaps its own child, and outlives what ends the platform.
    signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_FOR_SHIMS)
    try:
        if os.fork() == 0:
            listener.abandon()
            runtime.shim.main.run_shim(channel)
    except OSError as error:
        _refuse(channel, KernelFailure("fork", error.errno or 0))
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _NOT_FOR_SHIMS)
        channel.close()


def _refuse(channel: socket.socket, error: EngineError) -> None:
    message = json.dumps({"stage": "failed", "error": error.payload()})
    with suppress(OSError):
        channel.sendall(message.encode() + b"\n")


class Listener:
    """The socket, for root alone. Closing it removes the path, unless a successor has taken it over."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        mask = os.umask(0o177)
        try:
            self._socket.bind(str(path))
        finally:
            os.umask(mask)
        self._socket.listen(256)
        self._inode = os.stat(path).st_ino

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        with suppress(FileNotFoundError):
            if os.stat(self._path).st_ino == self._inode:
                os.unlink(self._path)

    def accept(self) -> socket.socket:
        return self._socket.accept()[0]

    def abandon(self) -> None:
        """In a forked child: the descriptor alone."""
        self._socket.close()


def _reap(_number: int, _frame: FrameType | None) -> None:
    """Collect shims that have ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    """A line for the supervisor's log."""
    os.write(2, text.encode() + b"\n")


def _leave_unit(config: Config) -> None:
    """Go to a cgroup of our own, which shims inherit (see `enter_shims`)."""
    for root in enter_shims(config.cgroup):
        _say(f"launcher: shims stay in this service's group below {root}")


if __name__ == "__main__":
    sys.exit(main())
