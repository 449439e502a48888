"""What is in a directory, and in a file, for a process whose "/" is the container's (copying.py)."""

from __future__ import annotations

import heapq
import json
import os
import posixpath
import stat
from collections.abc import Iterator
from typing import IO, Any

from runtime.errors import SpecInvalid
from runtime.shim.tars import go_into

_BLOCK = 1 << 16  # bytes
_LONGEST_TABLE = 1 << 20  # bytes of /etc/passwd and /etc/group that are looked at
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def enter_directory(path: str) -> dict[str, Any]:
    """Go into the directory: {"path": where it is without links, "on_root": whether on the root's own file system}.

    Raises SpecInvalid, OSError.
    """
    go_into(path)
    return {"path": os.getcwd(), "on_root": os.stat(".").st_dev == os.stat("/").st_dev}


def write_entries(out: IO[bytes], *, after: str, limit: int) -> None:
    """The names of the present directory that come after `after`, `limit` at most, as lines of JSON.

    {"name", "kind", "size", "mode", "uid", "gid", "user", "group", "mtime", "link_target", "leads_to"}: `kind` is
    file, directory, link, pipe, socket or device, `leads_to` that of what a link leads to, "" when to nothing.
    With one more, {"more": true}. Needs memory for `limit` names, however many there are. Raises OSError.
    """
    users, groups = _names("/etc/passwd"), _names("/etc/group")
    with os.scandir(".") as found:
        names = heapq.nsmallest(limit + 1, (e.name for e in found if e.name > after))
    for name in names[:limit]:
        try:
            entry = _entry(name)
        except OSError:
            continue  # removed since
        entry["user"], entry["group"] = users.get(entry["uid"], ""), groups.get(entry["gid"], "")
        out.write(json.dumps(entry).encode() + b"\n")
    if len(names) > limit:
        out.write(b'{"more": true}\n')


def _entry(name: str) -> dict[str, Any]:
    facts = os.lstat(name)
    kind = _KINDS.get(stat.S_IFMT(facts.st_mode), "device")
    target = leads_to = ""
    if kind == "link":
        target = os.readlink(name)
        try:
            leads_to = _KINDS.get(stat.S_IFMT(os.stat(name).st_mode), "device")
        except OSError:
            pass  # to nothing, or round in circles
    return {
        "name": name,
        "kind": kind,
        "size": facts.st_size,
        "mode": facts.st_mode,
        "uid": facts.st_uid,
        "gid": facts.st_gid,
        "mtime": facts.st_mtime,
        "link_target": target,
        "leads_to": leads_to,
    }


def _names(table: str) -> dict[int, str]:
    """Names by number; {} when the container has no such file."""
    found: dict[int, str] = {}
    try:
        fd = _open(table)
    except (OSError, SpecInvalid):
        return found
    with os.fdopen(fd, "rb") as file:
        for line in file.read(_LONGEST_TABLE).decode("utf-8", "replace").splitlines():
            parts = line.split(":")
            if len(parts) > 2 and parts[2].isdecimal() and len(parts[2]) < 11:
                found.setdefault(int(parts[2]), parts[0])
    return found


def open_file(path: str) -> tuple[int, dict[str, Any]]:
    """A descriptor of the regular file that `path` leads to, and what it is, as tars.describe says it.

    Raises SpecInvalid, OSError.
    """
    fd = _open(path)
    facts = os.fstat(fd)
    return fd, {
        "name": posixpath.basename(posixpath.normpath(path)),
        "size": facts.st_size,
        "mode": facts.st_mode,
        "mtime": facts.st_mtime,
        "link_target": "",
    }


def _open(path: str) -> int:
    """Raises SpecInvalid for what is no regular file; a device does not open here (copying.py)."""
    _require_file(os.stat(path), path)
    # Not blocking: it may have become a pipe that nobody writes to.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        _require_file(os.fstat(fd), path)
    except SpecInvalid:
        os.close(fd)
        raise
    return fd


def _require_file(facts: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise SpecInvalid(
            "path", f"{path} is not a file.", hint="Take a directory as a tar stream."
        )


def blocks_of(fd: int, limit: int | None) -> Iterator[bytes]:
    """What is in the file, `limit` bytes at most. Raises OSError."""
    left = limit
    while left is None or left > 0:
        data = os.read(fd, _BLOCK if left is None else min(_BLOCK, left))
        if not data:
            return
        left = None if left is None else left - len(data)
        yield data
