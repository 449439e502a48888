"""What happens in a child between fork and exec: who it is, what it sees, and that it never outlives us."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable
from pathlib import Path

from workers.supervisor.instance import CHECKOUT, Instance, account
from workers.supervisor.processes import Process

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWNS = 0x00020000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT = 1, 2, 4, 32
_MS_BIND, _MS_REC, _MS_SLAVE = 4096, 16384, 1 << 19

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
]


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source: str, target: str, flags: int) -> None:
    _check(
        _libc.mount(os.fsencode(source), os.fsencode(target), None, flags, None),
        f"mount {source} on {target}",
    )


def preparation(
    process: Process, instance: Instance, *, foreground: bool = False
) -> Callable[[], None]:
    """The function to run in the forked child; everything it needs is looked up before the fork.

    The supervisor has one thread, so running Python in the child is safe. `foreground` leaves the
    child in the caller's session, for commands that talk to a person.
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
            _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl no_new_privs")
        # Last, because a change of user clears it: prctl(2).
        _check(_libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0), "prctl pdeathsig")
        if os.getppid() != parent:
            os._exit(1)

    return prepare


def _bind_checkout(target: Path) -> None:
    """The checkout, read-only, at `target`, in this process alone."""
    _check(_libc.unshare(_CLONE_NEWNS), "unshare")
    # Slave: what the host mounts later is still seen, and nothing from here reaches the host.
    _mount("none", "/", _MS_REC | _MS_SLAVE)
    _mount(str(CHECKOUT), str(target), _MS_BIND | _MS_REC)
    _mount("none", str(target), _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)
