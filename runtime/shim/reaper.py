"""`docker run --init`: a first process that passes signals on and reaps what others leave behind."""

from __future__ import annotations

import os
import signal
import termios

from runtime.kernel import syscalls

# Those that say something about ourselves, and those that cannot be waited for.
_OWN = {signal.SIGCHLD, signal.SIGKILL, signal.SIGSTOP, signal.SIGTTIN, signal.SIGTTOU}


def stay_as_init() -> None:
    """Fork; return in the child alone, which executes the command in a process group of its own.

    The parent stays what it is, the container's process 1, with the privileges that it has dropped to.
    It ends with the command, and as the command did: with its status, or 128 and its signal.
    """
    waited = signal.valid_signals() - _OWN | {signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    child = os.fork()
    if child == 0:
        _lead(before)
        return
    syscalls.close_range(3, 0xFFFFFFFF)
    while True:
        number = signal.sigwait(waited)
        if number != signal.SIGCHLD:
            _pass_on(child, number)
            continue
        _reap(child)


def _lead(mask: set[int | signal.Signals]) -> None:
    """A job of its own, in the foreground when there is a terminal."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        os.tcsetpgrp(0, os.getpgrp())
    except (OSError, termios.error):
        pass  # no terminal
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _pass_on(child: int, number: int) -> None:
    try:
        os.kill(child, number)
    except OSError:
        pass  # it has just ended; SIGCHLD follows


def _reap(child: int) -> None:
    """Everything that has ended; when that is the command, end as it did."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(128 - code if code < 0 else code)
