"""System calls, netlink messages, writes and calls on sockets that fail now and then: loaded into a process that is to suffer.

`SLIPWAY_PRELOAD=tests.support.faults` has the platform's root processes, the resolver and what copies files
import this first, and `SLIPWAY_FAULTS="seed=7,rate=0.002,switch=/path,sites=write+mount"` says how often, and
which sites (all of them unless named). Faults happen while the first byte of the file `switch` is not zero; each is noted as a
line in `<switch>.log`. Only what the runtime itself calls fails, never a library's own business.

EINTR comes only where the runtime would meet it: from its own system calls, and in answers of netlink. Python
begins a call of `os` again by itself that a signal has interrupted (PEP 475).
"""

from __future__ import annotations

import builtins
import errno
import mmap
import os
import pathlib
import random
import shutil
import socket
import stat
import struct
import sys
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

from runtime.errors import FirewallFailure, KernelFailure

# Every site with the errors that the kernel may give there.
_OS: dict[str, tuple[int, ...]] = {
    "open": (errno.EMFILE, errno.EIO, errno.ENOSPC),
    "write": (errno.ENOSPC, errno.EIO),
    "writev": (errno.ENOSPC, errno.EIO),
    "mkdir": (errno.ENOSPC, errno.EIO),
    "rename": (errno.ENOSPC, errno.EIO),
    "rmdir": (errno.EBUSY, errno.EIO),
    "unlink": (errno.EIO, errno.EBUSY),
    "fsync": (errno.EIO, errno.ENOSPC),
    "setxattr": (errno.ENOSPC, errno.EIO),
    "removexattr": (errno.EIO,),
    "scandir": (errno.EIO, errno.ENOMEM),
    "listdir": (errno.EIO, errno.ENOMEM),
    "fork": (errno.ENOMEM, errno.EAGAIN),
    "pipe2": (errno.EMFILE,),
    "pidfd_open": (errno.EMFILE, errno.ENOMEM),
    "memfd_create": (errno.EMFILE, errno.ENOMEM),
    "symlink": (errno.ENOSPC, errno.EIO),
    "link": (errno.ENOSPC, errno.EIO),
    "mknod": (errno.ENOSPC, errno.EIO),
    "chown": (errno.EIO, errno.ENOSPC),
    "fchown": (errno.EIO, errno.ENOSPC),
    "chmod": (errno.EIO, errno.ENOSPC),
    "truncate": (errno.EIO, errno.ENOSPC),
    "ftruncate": (errno.EIO, errno.ENOSPC),
    "getxattr": (errno.EIO, errno.ENOMEM),
    "utime": (errno.EIO,),
    "fchmod": (errno.EIO, errno.ENOSPC),
    "mkfifo": (errno.ENOSPC, errno.EIO),
}
# Of a write to a file of the kernel's: cgroups, sysctls, maps of ids.
_CONTROL = (errno.EBUSY, errno.ENOMEM, errno.ENOSPC, errno.EIO)
_SYSCALLS: dict[str, tuple[int, ...]] = {
    "mount": (errno.EBUSY, errno.ENOMEM, errno.EINTR),
    "umount": (errno.EBUSY,),
    "unshare": (errno.ENOMEM, errno.ENOSPC),
    "setns": (errno.ENOMEM,),
    "pivot_root": (errno.EBUSY,),
    "fork_sibling": (errno.ENOMEM, errno.EAGAIN),
    "map_code": (errno.ENOMEM, errno.EACCES),
    "open_tree": (errno.ENOMEM, errno.EMFILE),
    "move_mount": (errno.EBUSY, errno.ENOMEM),
    "mount_setattr": (errno.EBUSY, errno.ENOMEM),
    "openat2": (errno.EMFILE, errno.EAGAIN),
    "capset": (errno.ENOMEM,),
    "seccomp_set_filter": (errno.ENOMEM,),
    "sethostname": (errno.ENOMEM,),
    "fsopen": (errno.ENOMEM, errno.EMFILE),
    "fsconfig": (errno.EINTR, errno.ENOMEM, errno.EBUSY),
    "fsmount": (errno.EINTR, errno.ENOMEM),
    "rename_new": (errno.ENOSPC, errno.EIO),
    "syncfs": (errno.EIO, errno.ENOSPC),
}
_NETLINK = (errno.ENOBUFS, errno.ENOMEM, errno.EBUSY, errno.EINTR, errno.ENOSPC)
_INOTIFY = (errno.ENOSPC, errno.ENOMEM)
# Of the resolver's sockets.
_SOCKET: dict[str, tuple[int, ...]] = {
    "socket": (errno.EMFILE, errno.ENOBUFS, errno.ENOMEM),
    "setsockopt": (errno.ENOBUFS, errno.ENOMEM),
    "bind": (errno.EADDRINUSE, errno.ENOMEM),
    "listen": (errno.EADDRINUSE,),
    "connect": (errno.ENETUNREACH, errno.ENOBUFS, errno.EADDRNOTAVAIL),
    "accept": (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED),
    "recvfrom": (errno.ENOBUFS, errno.ENOMEM),
    "sendto": (errno.ENOBUFS, errno.ENOMEM, errno.ENETUNREACH, errno.EPERM),
    "recv": (errno.ECONNRESET, errno.ENOMEM),
    "send": (errno.ENOBUFS, errno.ENOMEM, errno.ECONNRESET, errno.EPIPE),
}
_NFT = (errno.ENOMEM, errno.EBUSY, errno.EINTR, errno.ENOSPC)
# What stands between the runtime and the call it makes.
_BETWEEN = ("pathlib", "shutil", "os", "contextlib", "tempfile", "runtime.kernel.syscalls")


# Each happens once as soon as a call fails that can meet it, in whichever process.
_SURE = (errno.EINTR, errno.ENOMEM, errno.EBUSY, errno.ENOSPC, errno.EIO)
_SIZE = 16  # bytes of the switch: on or off, which of these have happened, and how many processes there were


class Faults:
    def __init__(self, settings: str) -> None:
        values = dict(pair.split("=", 1) for pair in settings.split(","))
        self._seed = values["seed"]
        self._rate = float(values["rate"])
        self._sites = set(values["sites"].split("+")) if values.get("sites") else None
        fd = os.open(values["switch"], os.O_RDWR | os.O_CLOEXEC)
        # Shared with every fork, whatever it closes and wherever its root is.
        self._switch = mmap.mmap(fd, _SIZE)
        os.close(fd)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._log = os.open(f"{values['switch']}.log", flags, 0o600)
        self._log_is = os.fstat(self._log).st_ino
        self._write = os.write
        self._reseed()
        os.register_at_fork(after_in_child=self._reseed)

    def _reseed(self) -> None:
        (number,) = struct.unpack_from("=Q", self._switch, 8)
        struct.pack_into("=Q", self._switch, 8, number + 1)
        self._dice = random.Random(f"{self._seed}/{number}")

    def strikes(self, site: str, errors: tuple[int, ...]) -> int:
        """The errno with which this call is to fail; 0 mostly."""
        if not self.is_on() or self._dice.random() >= self._rate:
            return 0
        if (self._sites is not None and site not in self._sites) or not self._is_ours():
            return 0
        due = [e for e in errors if e in _SURE and not self._switch[1 + _SURE.index(e)]]
        number = self._dice.choice(due or errors)
        if due:
            self._switch[1 + _SURE.index(number)] = 1
        self._note(site, number)
        return number

    def keep_log(self) -> None:
        """Also where everything is closed that is not needed."""
        from runtime.kernel import syscalls

        real = syscalls.close_range

        def close_range(first: int, last: int, flags: int = 0) -> None:
            for low, high in ((first, self._log - 1), (self._log + 1, last)):
                if max(low, first) <= min(high, last):
                    real(max(low, first), min(high, last), flags)

        syscalls.close_range = close_range

    def on_file(self, fd: int) -> bool:
        """Only a file runs out of space; a pipe or a socket does not."""
        return stat.S_ISREG(os.fstat(fd).st_mode)

    def is_on(self) -> bool:
        return self._switch[0] != 0

    def _is_ours(self) -> bool:
        """Whether the runtime itself makes the call, perhaps by way of pathlib or shutil."""
        frame: FrameType | None = sys._getframe(3)
        while frame is not None:
            name = str(frame.f_globals.get("__name__", ""))
            if name.startswith(("runtime.", "workers.")) and name != "runtime.kernel.syscalls":
                return not name.startswith("workers.supervisor")
            if name not in _BETWEEN:
                return False
            frame = frame.f_back
        return False

    def _note(self, site: str, number: int) -> None:
        stack = [
            f
            for f in traceback.extract_stack()
            if "/runtime/" in f.filename or "/workers/" in f.filename
        ]
        where = " < ".join(
            f"{f.filename.rpartition('/')[2].removesuffix('.py')}.{f.name}:{f.lineno}"
            for f in reversed(stack[-7:])
        )
        line = f"{time.time():.3f} {os.getpid()} {site} {errno.errorcode[number]} {where}\n"
        try:
            if os.fstat(self._log).st_ino == self._log_is:
                self._write(self._log, line.encode())
        except OSError:
            pass  # a process that has closed everything


def install(settings: str) -> None:
    faults = Faults(settings)
    for name, errors in _OS.items():
        setattr(os, name, _failing_os(faults, name, errors, getattr(os, name)))
    # What reads and writes files without these.
    builtins.open = _failing_os(faults, "open", _OS["open"], open)
    for name in ("write_text", "write_bytes"):
        real = getattr(pathlib.Path, name)
        setattr(pathlib.Path, name, _failing_os(faults, "write", _OS["write"], real))
    # What writes files through their buffers.
    shutil.copyfileobj = _failing_os(faults, "write", _OS["write"], shutil.copyfileobj)
    from runtime.kernel import inotify, syscalls

    inotify.Inotify.add = _failing_call(  # type: ignore[method-assign]
        faults, "inotify", _INOTIFY, inotify.Inotify.add
    )
    if "runtime.shim.copying" in sys.modules:
        faults.keep_log()
    for name, errors in _SYSCALLS.items():
        setattr(syscalls, name, _failing_call(faults, name, errors, getattr(syscalls, name)))
    from runtime.kernel import rtnetlink

    exchange = rtnetlink.Rtnetlink.exchange

    def failing_exchange(self: Any, kind: int, flags: int, body: bytes) -> None:
        if number := faults.strikes("netlink", _NETLINK):
            raise OSError(number, os.strerror(number))
        exchange(self, kind, flags, body)
        # Done, and its acknowledgement lost.
        if number := faults.strikes("netlink-late", (errno.ENOBUFS,)):
            raise OSError(number, os.strerror(number))

    rtnetlink.Rtnetlink.exchange = failing_exchange  # type: ignore[method-assign]
    if "runtime.network.resolver.server" in sys.modules:
        _fail_sockets(faults)
    if "celery" not in sys.modules and "workers" not in sys.modules:
        return  # the launcher has no firewall
    from runtime.kernel import nftables
    from runtime.network import netlink

    nft, route = nftables.Nftables.run, netlink.Netlink.run

    def failing_nft(self: Any, script: str) -> str:
        if number := faults.strikes("nft", _NFT):
            raise FirewallFailure(f"nftables: {os.strerror(number)}", reason="other")
        said = nft(self, script)
        if number := faults.strikes("nft-late", (errno.ENOBUFS,)):
            raise FirewallFailure(f"nftables: {os.strerror(number)}", reason="other")
        return said

    def failing_route(self: Any, action: Any) -> Any:
        if number := faults.strikes("route", _NETLINK):
            raise OSError(number, os.strerror(number))
        return route(self, action)

    nftables.Nftables.run = failing_nft  # type: ignore[method-assign]
    netlink.Netlink.run = failing_route  # type: ignore[method-assign]


def _failing_os(
    faults: Faults, name: str, errors: tuple[int, ...], real: Callable[..., Any]
) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        due = errors
        if name in ("write", "writev", "fsync") and isinstance(args[0], int) and faults.is_on():
            if not faults.on_file(args[0]):
                return real(*args, **kwargs)
            if name == "write" and _is_control(args[0]):
                due = _CONTROL
        if number := faults.strikes(name, due):
            path = next((a for a in args if isinstance(a, (str, os.PathLike))), None)
            raise OSError(number, os.strerror(number), None if path is None else os.fspath(path))
        return real(*args, **kwargs)

    return call


def _fail_sockets(faults: Faults) -> None:
    class FailingSocket(socket.socket):
        pass

    for name, errors in _SOCKET.items():
        method = "__init__" if name == "socket" else name
        real = getattr(socket.socket, method)
        setattr(FailingSocket, method, _failing_os(faults, name, errors, real))
    socket.socket = FailingSocket  # type: ignore[misc]


def _is_control(fd: int) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith(("/sys/fs/cgroup/", "/proc/"))
    except OSError:
        return False  # where there is no /proc


def _failing_call(
    faults: Faults, name: str, errors: tuple[int, ...], real: Callable[..., Any]
) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        if number := faults.strikes(name, errors):
            raise KernelFailure(name, number)
        return real(*args, **kwargs)

    return call


if "SLIPWAY_FAULTS" in os.environ:
    install(os.environ["SLIPWAY_FAULTS"])
