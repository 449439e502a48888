"""The fork server: one shim per connection, and nothing else.

Everything a shim needs is imported here, once, and shared with every shim by copy-on-write. It stays
single-threaded, so a fork is safe at any moment. Containers do not notice its death.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from types import FrameType

import runtime.cgroups.v1
import runtime.cgroups.v2
import runtime.shim.main
import runtime.shim.userns
from runtime.errors import EngineError, KernelFailure
from runtime.kernel import constants as c
from runtime.kernel import syscalls
from runtime.launcher.interpreter import forbid_execution
from runtime.launcher.rehearse import rehearse
from runtime.shim import sockets
from runtime.shim.naming import set_name
from runtime.shim.sockets import Socket

_NOT_FOR_SHIMS = (
    signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM
)  # fmt: skip
_PAUSE = 0.2  # seconds before trying again, when accepting or forking has failed
_QUIET = (
    0.03  # seconds without a start before the next one is prepared, so as not to slow this one down
)
# Seconds. The first process of a container is as old as the shim that has kept it in reserve: `ps` inside shows
# it, and programs that report since when they run.
_SPARE_LIFE = 30.0


def main() -> None:
    """Serve until SIGTERM or SIGINT.

    Arguments: the listening descriptor, its path, a directory for runs; the user namespace's descriptor or -1, the
    first of its ids and their number; the descriptor of the interpreter's mount, or -1.
    """
    descriptor, path, directory = sys.argv[1:4]
    installed, first, count, interpreter = map(int, sys.argv[4:])
    forbid_execution(interpreter)
    if "SLIPWAY_PRELOAD" in os.environ:  # tests of failures
        __import__(os.environ["SLIPWAY_PRELOAD"])
    if installed >= 0:
        os.set_inheritable(installed, False)
    runtime.shim.userns.installed, runtime.shim.userns.ids = installed, (first, count)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        os.set_inheritable(int(descriptor), False)
        with closing(sockets.adopt(int(descriptor))) as listener, _removed_at_end(path):
            listener.setblocking(False)
            _prepare(directory)
            _say("launcher ready")
            _serve_for_ever(_Door(listener))
    except KeyboardInterrupt:
        return


@contextmanager
def _removed_at_end(path: str) -> Iterator[None]:
    """Remove the socket, unless a successor has put its own there."""
    inode = os.stat(path).st_ino
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            if os.stat(path).st_ino == inode:
                os.unlink(path)


def _prepare(directory: str) -> None:
    """Everything that is better done once, here, than in every shim."""
    # Before Linux 6.14, who is executed by descriptor is called by its number.
    set_name("launcher")
    os.chdir("/")
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    # A process inside a container must not be able to look into one that joins it (CVE-2016-9962).
    syscalls.prctl(c.PR_SET_DUMPABLE, 0)
    # A signal waits: what it interrupts here has children that go on.
    signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_FOR_SHIMS)
    try:
        rehearse(directory)
    except (EngineError, OSError) as error:
        _say(f"launcher: monitors will take more memory, for the rehearsal failed: {error}")
    # First, so that it hears of the children that a rehearsal which failed has left.
    signal.signal(signal.SIGCHLD, _reap)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _NOT_FOR_SHIMS)
    # What is loaded now is never collected, so that no collector writes to shared pages.
    gc.collect()
    gc.disable()
    gc.freeze()


class _Door:
    """Where connections come from. Signals come through as well: one that arrives just before select() would
    otherwise be slept through, and its handler run at the next start.
    """

    def __init__(self, listener: Socket) -> None:
        self._listener = listener
        self._signalled, wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)

    def knocked(self, within: float) -> bool:
        """Whether somebody connects `within` seconds."""
        return self._heard(self._listener.fileno(), within)

    def left_to(self, spare: Socket, within: float) -> bool:
        """Wait until the shim in reserve has a connection, or `within` seconds; False when it has ended without."""
        return not self._heard(spare.fileno(), within) or bool(spare.recv(1))

    def _heard(self, fd: int, within: float) -> bool:
        while True:
            ready = select.select([fd, self._signalled], [], [], within)[0]
            if self._signalled in ready:
                os.read(self._signalled, 512)
            elif not ready:
                return False
            if fd in ready:
                return True

    def accept(self) -> Socket:
        return sockets.accept(self._listener)

    def leave(self) -> Socket:
        """For a fork: what else there is is the launcher's alone. Returns the listening socket."""
        os.close(self._signalled)
        os.close(signal.set_wakeup_fd(-1))
        return self._listener


def _serve_for_ever(door: _Door) -> None:
    """One shim per connection. One is kept in reserve, which takes the next connection by itself: preparing is most
    of what a start takes.
    """
    pause = _QUIET
    while True:
        if door.knocked(pause):
            _serve(door)
            pause = _QUIET
        elif (spare := _make_spare(door)) is None:
            pause = _PAUSE
        else:
            with closing(spare):
                # Who kills them, or has no memory for them, is not given one after the other.
                pause = _QUIET if door.left_to(spare, _SPARE_LIFE) else _PAUSE


def _make_spare(door: _Door) -> Socket | None:
    """Fork a shim that waits for a connection. Returns what tells when it has one, None when it could not be made."""
    try:
        ours, theirs = sockets.pair()
    except OSError:
        return None
    with closing(theirs):
        try:
            if _fork() == 0:
                ours.close()
                runtime.shim.main.run_spare(theirs, door.leave())
        except OSError:
            ours.close()
            return None  # who starts a container is told; this is only for speed
    return ours


def _serve(door: _Door) -> None:
    """Fork a shim for one connection. A host out of processes, memory or descriptors costs this start, not
    the launcher.
    """
    try:
        channel = door.accept()
    except BlockingIOError:
        return  # whoever it was has gone
    except OSError as error:
        _say(f"launcher: cannot accept: {error.strerror}")
        time.sleep(_PAUSE)
        return
    with closing(channel):
        try:
            if _fork() == 0:
                door.leave().close()
                runtime.shim.main.run_shim(channel)
        except OSError as error:
            _refuse(channel, KernelFailure("fork", error.errno or 0))


def _fork() -> int:
    # A shim keeps them blocked: it reaps its own child, and outlives what ends the platform.
    signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_FOR_SHIMS)
    pid = -1
    try:
        pid = os.fork()
    finally:
        if pid:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _NOT_FOR_SHIMS)
    return pid


def _refuse(channel: Socket, error: EngineError) -> None:
    message = json.dumps({"stage": "failed", "error": error.payload()})
    with suppress(OSError):
        channel.sendall(message.encode() + b"\n")


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
