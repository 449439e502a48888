"""System calls, netlink messages and writes that fail now and then: loaded into a process that is to suffer.

`SLIPWAY_PRELOAD=tests.support.faults` has the platform's root processes import this first, and
`SLIPWAY_FAULTS="seed=7,rate=0.002,switch=/path,sites=write+mount"` says how often, and which sites (all of
them unless named). Faults happen while the first byte of the file `switch` is not zero; each is noted as a
line in `<switch>.log`. Only what the runtime itself calls fails, never a library's own business.
"""

from __future__ import annotations

import errno
import mmap
import os
import random
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
}
_SYSCALLS: dict[str, tuple[int, ...]] = {
    "mount": (errno.EBUSY, errno.ENOMEM, errno.EINTR),
    "umount": (errno.EBUSY,),
    "unshare": (errno.ENOMEM, errno.ENOSPC),
    "setns": (errno.ENOMEM,),
    "pivot_root": (errno.EBUSY,),
    "fork_sibling": (errno.ENOMEM, errno.EAGAIN),
    "open_tree": (errno.ENOMEM, errno.EMFILE),
    "move_mount": (errno.EBUSY, errno.ENOMEM),
    "mount_setattr": (errno.EBUSY, errno.ENOMEM),
    "openat2": (errno.EMFILE, errno.EAGAIN),
    "capset": (errno.ENOMEM,),
    "seccomp_set_filter": (errno.ENOMEM,),
    "sethostname": (errno.ENOMEM,),
}
_NETLINK = (errno.ENOBUFS, errno.ENOMEM, errno.EBUSY, errno.EINTR)
# What stands between the runtime and the call it makes.
_BETWEEN = ("pathlib", "shutil", "os", "contextlib", "tempfile", "runtime.kernel.syscalls")


_SIZE = 16  # bytes of the switch: on or off, and how many processes there were


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
        if self._switch[0] == 0 or self._dice.random() >= self._rate:
            return 0
        if (self._sites is not None and site not in self._sites) or not self._is_ours():
            return 0
        number = self._dice.choice(errors)
        self._note(site, number)
        return number

    def on_file(self, fd: int) -> bool:
        """Only a file runs out of space; a pipe or a socket does not."""
        return stat.S_ISREG(os.fstat(fd).st_mode)

    def _is_ours(self) -> bool:
        """Whether the runtime itself makes the call, perhaps by way of pathlib or shutil."""
        frame: FrameType | None = sys._getframe(3)
        while frame is not None:
            name = str(frame.f_globals.get("__name__", ""))
            if name.startswith(("runtime.", "workers.")) and name != "runtime.kernel.syscalls":
                return not name.startswith(("runtime.images", "workers.supervisor"))
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
    from runtime.kernel import syscalls

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
    if "celery" not in sys.modules and "workers" not in sys.modules:
        return  # the launcher has no firewall
    from runtime.kernel import nftables
    from runtime.network import netlink

    nft, route = nftables.Nftables.run, netlink.Netlink.run

    def failing_nft(self: Any, script: str) -> str:
        if number := faults.strikes("nft", (errno.ENOMEM, errno.EBUSY, errno.EINTR)):
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
        if name in ("write", "fsync") and not faults.on_file(args[0]):
            return real(*args, **kwargs)
        if number := faults.strikes(name, errors):
            path = next((a for a in args if isinstance(a, (str, os.PathLike))), None)
            raise OSError(number, os.strerror(number), None if path is None else os.fspath(path))
        return real(*args, **kwargs)

    return call


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
