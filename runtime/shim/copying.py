"""A process that enters a container: it speaks tar, as `docker cp` and `docker export` ask for, and lists directories.

    python -S -c … REQUEST STATUS    (descriptors; the tar comes on stdin, or goes to stdout)

Everything it runs is loaded before it enters; after that, imports are forbidden: the container's files are
data, never code (the class of CVE-2019-14271). Its "/" is the container's then, so that no link of the
container's making leads to the host (CVE-2018-15664), in a mount namespace of its own, where no device opens. Of
what is the host's it keeps its pipes alone and, of a container that does not run, the lock.

Lines on STATUS: {"stat"} before a tar that is read, {"ready"} before one that is written, then {"done"}, or
{"error"}. Of one that is written both say how much is in its place, as {"members", "bytes"}; an error only when
something is. A directory is {"list"}, then its entries on stdout (listing.py), a file's content like a tar.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import sys
from typing import Any

from runtime.errors import Conflict, EngineError, KernelFailure, NotFound, StorageFull
from runtime.kernel import constants as c
from runtime.kernel import mounts, syscalls
from runtime.kernel.capabilities import mask
from runtime.shim.init import forbid_imports
from runtime.shim.listing import blocks_of, enter_directory, open_file, write_entries
from runtime.shim.tars import Written, describe, go_into, pack, unpack
from runtime.shim.userns import become_root

_KEPT = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID")
_IN_THE_WAY = (
    errno.EROFS, errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EBUSY,
    errno.ENOTEMPTY, errno.ELOOP, errno.ENAMETOOLONG, errno.ETXTBSY,
)  # fmt: skip
_MEMORY = 512 << 20  # bytes of address space: a member's header may claim to be any size


def main(request_fd: int, status: int) -> None:
    if "SLIPWAY_PRELOAD" in os.environ:  # tests of failures
        __import__(os.environ["SLIPWAY_PRELOAD"])
    with os.fdopen(request_fd, encoding="utf-8") as file:
        request = json.load(file)
    written = Written()
    failure = None
    try:
        _enter(request, status)
        _serve(request, status, written)
    except EngineError as error:
        failure = error
    except OSError as error:
        failure = _explained(error, request)
    except BaseException as error:  # noqa: BLE001 - the last frame of this process
        failure = EngineError(f"The files could not be copied: {type(error).__name__}: {error}")
    told = {"members": written.members, "bytes": written.bytes}
    if failure is None:
        _tell(status, {"done": told})
    else:
        if written.members:
            failure.extra["written"] = told
        _tell(status, {"error": failure.payload()})
    os._exit(0)


def _serve(request: dict[str, Any], status: int, written: Written) -> None:
    path = request["path"]
    if request["op"] == "list":
        _tell(status, {"list": enter_directory(path)})
        with os.fdopen(1, "wb", closefd=False) as out:
            write_entries(out, after=request["after"], limit=request["limit"])
        return
    if request["op"] == "content":
        fd, facts = open_file(path)
        _tell(status, {"stat": facts})
        with os.fdopen(1, "wb", closefd=False) as out:
            for block in blocks_of(fd, request["limit"]):
                out.write(block)
        return
    if request["op"] == "write":
        options = {name: bool(request[name]) for name in ("no_overwrite", "keep_ids")}
        go_into(path)
        _tell(status, {"ready": True})
        with os.fdopen(0, "rb", closefd=False) as source:
            unpack(source, written, **options)
        return
    _tell(status, {"stat": describe(path)})
    if request["op"] == "read":
        with os.fdopen(1, "wb", closefd=False) as out:
            pack(path, out, mounts=not request["export"])


def _enter(request: dict[str, Any], status: int) -> None:
    """Make the container's root file system this process's "/", and keep nothing of the host's."""
    syscalls.prctl(c.PR_SET_DUMPABLE, 0)
    "".encode("utf-8", "surrogateescape").decode("iso8859-1")  # codecs load on first use
    forbid_imports()
    if "pidfd" in request:
        flags = c.CLONE_NEWNS | (c.CLONE_NEWUSER if request["mapped"] else 0)
        syscalls.setns(request["pidfd"], flags)
        if request["mapped"]:
            become_root()
        syscalls.unshare(c.CLONE_NEWNS)
    else:
        _mount(request)
    os.chdir("/")
    # What was a file when it was looked at may be a device when it is opened: here none can be opened.
    alone = {"attr_set": c.MOUNT_ATTR_NODEV, "propagation": c.MS_PRIVATE}
    syscalls.mount_setattr(c.AT_FDCWD, "/", **alone, flags=c.AT_RECURSIVE)
    _close_all_but({status, request.get("lock", status)})
    os.umask(0)
    kept = mask(_KEPT)
    syscalls.capset(kept, kept, 0)
    syscalls.prctl(c.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.prctl(c.PR_SET_DUMPABLE, 0)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


def _close_all_but(kept: set[int]) -> None:
    """Also standard input, output and error stay."""
    first = 3
    for fd in sorted(kept):
        if fd > first:
            syscalls.close_range(first, fd - 1)
        first = fd + 1
    syscalls.close_range(first, 0xFFFFFFFF)


def _mount(request: dict[str, Any]) -> None:
    """For one that does not run: its ids on disk are those seen inside, so nothing needs mapping."""
    overlay = request["overlay"]
    syscalls.unshare(c.CLONE_NEWNS)
    syscalls.mount("none", "/", "", c.MS_PRIVATE | c.MS_REC)
    mounts.mount_overlay(overlay)
    root = os.open(overlay["rootfs"], c.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for step in request["mounts"]:
            step["propagation"] = "rprivate"
            mounts.execute(step, root)
        if overlay["read_only"]:
            syscalls.mount_setattr(root, "", attr_set=c.MOUNT_ATTR_RDONLY)
    finally:
        os.close(root)
    mounts.pivot_into(overlay["rootfs"])


def _explained(error: OSError, request: dict[str, Any]) -> EngineError:
    number, where = error.errno or 0, str(error.filename or request["path"])
    writes = request["op"] == "write"
    if number == errno.ENOENT or (number == errno.ENOTDIR and not writes):
        return NotFound(f"There is no {where} in the container.")
    if number in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull("There is no space left for the files.")
    if writes and number in _IN_THE_WAY:
        return Conflict(f"{where} cannot be written: {os.strerror(number)}.")
    return KernelFailure("copy", number, where)


def _tell(status: int, message: dict[str, Any]) -> None:
    os.write(status, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
