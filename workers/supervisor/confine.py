"""What happens in a child between fork and exec: who it is, what it sees, and that it never outlives us."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from runtime.errors import EngineError
from runtime.kernel import syscalls
from runtime.kernel.constants import (
    CLONE_NEWNS,
    MS_BIND,
    MS_NODEV,
    MS_NOSUID,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    MS_SLAVE,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
)
from workers.supervisor.instance import CHECKOUT, Instance, account
from workers.supervisor.processes import Process


def preparation(
    process: Process, instance: Instance, *, foreground: bool = False
) -> Callable[[], None]:
    """The function to run in the forked child; everything it needs is looked up before the fork.

    The supervisor has one thread, so running Python in the child is safe. `foreground` leaves the
    child in the caller's session, for commands that talk to a person. The function raises
    KernelFailure and OSError.
    """
    parent = os.getpid()
    user = account(process.user) if process.user else None
    groups = os.getgrouplist(user.pw_name, user.pw_gid) if user else []

    def prepare() -> None:
        if not foreground:
            os.setsid()
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if process.sees_app:
            _bind_checkout(instance.app)
        os.chdir(process.cwd)
        if user:
            os.setgroups(groups)
            os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
            os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
            syscalls.prctl(PR_SET_NO_NEW_PRIVS, 1)
        # Last, because a change of user clears it: prctl(2).
        syscalls.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    def prepare_or_say_why() -> None:
        try:
            prepare()
        except (EngineError, OSError) as error:
            # subprocess tells its caller only that something was raised here.
            os.write(2, f"{error}\n".encode())
            raise

    return prepare_or_say_why


def _bind_checkout(target: Path) -> None:
    """The checkout, read-only, at `target`, in this process alone."""
    syscalls.unshare(CLONE_NEWNS)
    # Slave: what the host mounts later is still seen, and nothing from here reaches the host.
    syscalls.mount("none", "/", "", MS_REC | MS_SLAVE)
    syscalls.mount(str(CHECKOUT), str(target), "", MS_BIND | MS_REC)
    read_only = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV
    syscalls.mount("none", str(target), "", read_only)
