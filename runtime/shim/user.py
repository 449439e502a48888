"""Who the container's process is: names and numbers looked up in the image's own files.

The rules are Docker's (`docker run --user`, Dockerfile USER): "name", "uid", and either with ":group".
Runs after pivot_root, so "/etc/passwd" is the image's.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from runtime.errors import InitFailed

_MAX_SIZE = 16 * 1024 * 1024  # bytes; an image may hold anything under that name


class User(NamedTuple):
    uid: int
    gid: int
    groups: list[int]
    home: str
    name: str


def resolve_user(user: str, extra_groups: list[str], *, etc: str = "/etc") -> User:
    """Numbers for `user` and `extra_groups`. Raises InitFailed("user") for a name the image lacks."""
    passwd = _table(f"{etc}/passwd", 7)
    group_table = _table(f"{etc}/group", 4)
    who, _, group = user.partition(":")
    row = _find(passwd, who or "0")
    if row is not None:
        uid, gid, home, name = _number(row[2]), _number(row[3]), row[5] or "/", row[0]
    elif who.isdigit():
        uid, gid, home, name = int(who), 0, "/", ""
    elif not who:
        uid, gid, home, name = 0, 0, "/root", "root"
    else:
        raise InitFailed(
            "user",
            f"The image has no user {who!r}.",
            exit_code=126,
            hint="Use a name from the image's /etc/passwd, or a number.",
            field="process.user",
        )
    groups: list[int] = []
    if group:
        gid = _group(group, group_table, "process.user")
    elif name:
        groups = [
            _number(row[2]) for row in group_table if name in row[3].split(",") and row[2].isdigit()
        ]
    groups += [_group(g, group_table, "process.groups") for g in extra_groups]
    return User(uid, gid, list(dict.fromkeys([gid, *groups])), home, name)


def _group(group: str, table: list[list[str]], field: str) -> int:
    row = _find(table, group)
    if row is not None:
        return _number(row[2])
    if group.isdigit():
        return int(group)
    raise InitFailed(
        "user",
        f"The image has no group {group!r}.",
        exit_code=126,
        hint="Use a name from the image's /etc/group, or a number.",
        field=field,
    )


def _find(table: list[list[str]], key: str) -> list[str] | None:
    """A row by name; by number when no name fits."""
    by_name = next((row for row in table if row[0] == key), None)
    if by_name is not None or not key.isdigit():
        return by_name
    return next((row for row in table if row[2].isdigit() and int(row[2]) == int(key)), None)


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _table(path: str, columns: int) -> list[list[str]]:
    """Rows of a colon-separated file with at least `columns` fields; [] when there is no such file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        facts = os.fstat(fd)
        # A pipe or device under that name would hang or flood us, and so would a file of /proc, which
        # is as long as it says: nothing. (To read /proc/kmsg takes the host's messages away from it.)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > _MAX_SIZE:
            return []
        data = b""
        while len(data) < facts.st_size and (chunk := os.read(fd, facts.st_size - len(data))):
            data += chunk
    finally:
        os.close(fd)
    rows = (line.split(":") for line in data.decode("utf-8", "replace").splitlines())
    return [row for row in rows if len(row) >= columns]
