"""Fork the container's init with its stdio."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, NamedTuple

from runtime.errors import KernelFailure
from runtime.kernel import procfs
from runtime.shim import sockets
from runtime.shim.init import report, run_init
from runtime.shim.namespaces import Namespaces

if TYPE_CHECKING:
    from runtime.model.plan import Plan


class Child(NamedTuple):
    """Init, waiting for "go", and the monitor's ends of its descriptors by name."""

    pid: int
    start_time: int
    fds: list[
        tuple[str, int]
    ]  # "pidfd" "go" "status" and, as there are, "out" "err" "in" "terminal"


class Unwatched(KernelFailure):
    """Nobody could have watched init or told who it is, and so it was killed: `pid` is there to be reaped."""

    def __init__(self, pid: int, error: OSError) -> None:
        super().__init__("watch init", error.errno or 0, str(error.filename or ""))
        self.pid = pid


def spawn(
    plan: Plan,
    namespaces: Namespaces,
    *,
    first: bool,
    doors: list[int] | None = None,
    private: tuple[int, ...] = (),
) -> Child:
    """Fork init; `doors` are those of its groups when we are in its user namespace, `private` what it closes at
    once. It builds its root file system at once and executes once it reads a byte from "go". Raises Unwatched.

    "status" ends silently when it has executed, or says why it has not.
    """
    status_read, status_write = os.pipe2(os.O_CLOEXEC)
    go_read, go_write = os.pipe2(os.O_CLOEXEC)
    kept = [("status", status_read), ("go", go_write)]
    given = [status_write, go_read]
    outputs: list[int] = []
    stdin = terminal = -1
    if plan["tty"]:
        ours, theirs = sockets.pair()
        terminal = theirs.detach()
        kept.append(("terminal", ours.detach()))
        given.append(terminal)
    else:
        for name in ("out", "err"):
            read, write = os.pipe2(os.O_CLOEXEC)
            kept.append((name, read))
            outputs.append(write)
        if plan["stdin"]:
            stdin, write = os.pipe2(os.O_CLOEXEC)
            kept.append(("in", write))
            given.append(stdin)
    pid = namespaces.fork()
    if pid == 0:
        try:
            for fd in (go_write, *private):
                os.close(fd)
            _take_stdio(stdin, outputs)
        except BaseException as error:  # noqa: BLE001 - it would go on as a second starter
            os._exit(report(status_write, error))
        run_init(
            plan,
            go=go_read,
            status=status_write,
            terminal=terminal,
            configure_network=first,
            doors=doors,
        )
    for fd in (*given, *outputs, *(doors or ())):
        os.close(fd)
    try:
        started = procfs.start_time(pid)
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        os.kill(pid, signal.SIGKILL)
        raise Unwatched(pid, error) from error
    return Child(pid, started, [("pidfd", pidfd), *kept])


def _take_stdio(stdin: int, outputs: list[int]) -> None:
    """Put the pipes in place; with a terminal the three come later."""
    if stdin < 0:
        # The monitor's, which is the host's /dev/null: we may see another mount there by now.
        stdin = os.open("/proc/self/fd/0", os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(stdin, 0)
    for standard, fd in zip((1, 2), outputs, strict=False):
        os.dup2(fd, standard)
