"""User namespaces: one range of the host's ids, seen as 0 and up inside (user_namespaces(7))."""

from __future__ import annotations

import os

from runtime.errors import KernelFailure
from runtime.kernel import syscalls
from runtime.kernel.constants import CLONE_NEWNET, CLONE_NEWUSER


def make(base: int, count: int) -> int:
    """A user namespace in which the ids 0 to count - 1 are the host's base to base + count - 1.

    Returns a descriptor of it, which keeps it alive. Raises KernelFailure: the kernel has none, allows no
    more, or the ids are wrong.
    """
    return _make(base, count, CLONE_NEWUSER, "user")


def make_network(base: int, count: int) -> int:
    """A network namespace that belongs to such a user namespace, and keeps it alive. As `make`."""
    return _make(base, count, CLONE_NEWUSER | CLONE_NEWNET, "net")


def _make(base: int, count: int, flags: int, kind: str) -> int:
    unshared, tell_unshared = os.pipe2(os.O_CLOEXEC)
    wait, release = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.close(release)
        _hold(flags, tell_unshared, wait)
    os.close(tell_unshared)
    os.close(wait)
    try:
        answer = os.read(unshared, 16)
        if answer != b"0":
            raise KernelFailure("unshare", int(answer or 0), kind)
        for name in ("uid_map", "gid_map"):
            _write(f"/proc/{pid}/{name}", f"0 {base} {count}")
        return os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(unshared)
        os.close(release)
        os.waitpid(pid, 0)


def _hold(flags: int, tell: int, wait: int) -> None:
    """Be in new namespaces until the other end of `wait` is closed. Never returns."""
    try:
        try:
            syscalls.unshare(flags)
            os.write(tell, b"0")
        except KernelFailure as error:
            os.write(tell, str(error.errno).encode())
        os.read(wait, 1)
    finally:
        os._exit(0)


def _write(path: str, text: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise KernelFailure("write", error.errno or 0, path) from error
