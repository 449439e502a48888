"""Which user namespace a container gets: one of its own, another container's, or the host's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from runtime.errors import SpecInvalid, Unsupported
from runtime.model.plan import IdMap, UserNamespace
from runtime.model.spec import ContainerSpec
from runtime.model.validate_userns import needs_host
from runtime.store.files import read_json
from runtime.store.paths import Config


def _told(config: Config) -> tuple[str, tuple[int, int]]:
    """What the launcher has found: why containers cannot have user namespaces, "" when they can; and their ids.

    Its word counts, not our settings: they may be newer. Raises OSError when it cannot be read: a container does
    not get the host's ids for that.
    """
    try:
        told = read_json(config.user_namespaces)
        first, count = told["ids"] or (0, 0)
        return str(told["reason"]), (int(first), int(count))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return "the launcher has not said so yet", (0, 0)


def check(spec: ContainerSpec, config: Config) -> None:
    """Raise Unsupported for a container that must have what this host cannot give."""
    if spec.security.userns == "private" and (reason := _told(config)[0]):
        raise _unsupported(reason)


def choose(
    spec: ContainerSpec, config: Config, joined: list[int]
) -> tuple[str, UserNamespace | None]:
    """The plan's namespaces.user and user_namespace; `joined` are pids of containers whose namespaces it enters.

    Raises SpecInvalid, Unsupported when it asks for one of its own, and cannot have it.
    """
    asked = spec.security.userns
    if asked == "host" or (asked == "" and needs_host(spec)):
        return "host", None
    if joined:
        return _of_others(asked == "private", joined)
    reason, (first, count) = _told(config)
    if reason:
        if asked == "private":
            raise _unsupported(reason)
        return "host", None
    ranges: list[IdMap] = [{"inside": 0, "outside": first, "size": count}]
    return "own", {"uids": ranges, "gids": ranges, "required": asked == "private"}


def _of_others(required: bool, joined: list[int]) -> tuple[str, UserNamespace | None]:
    """A namespace is entered with rights in the user namespace that owns it: take that one."""
    found = {os.readlink(f"/proc/{pid}/ns/user"): pid for pid in joined}
    if len(found) > 1:
        raise SpecInvalid(
            "namespaces",
            "The containers whose namespaces it joins run in different user namespaces.",
            hint="Join the namespaces of one container, or give all of them userns=host.",
        )
    link, pid = next(iter(found.items()))
    if link == os.readlink("/proc/self/ns/user"):
        if required:
            raise SpecInvalid(
                "security.userns",
                "The container whose namespaces it joins runs in the host's user namespace.",
                hint="Leave userns out, or start the other container with userns=private.",
            )
        return "host", None
    uids, gids = (_read_map(Path(f"/proc/{pid}/{name}_map")) for name in ("uid", "gid"))
    return f"pid:{pid}", {"uids": uids, "gids": gids, "required": True}


def _read_map(path: Path) -> list[IdMap]:
    rows = (map(int, line.split()) for line in path.read_text().splitlines())
    return [{"inside": i, "outside": o, "size": n} for i, o, n in rows]


def facts(config: Config) -> dict[str, Any]:
    """For the host's page: the range of ids, and why it is not used."""
    try:
        reason, (first, count) = _told(config)
    except OSError as error:
        reason, (first, count) = f"it cannot be told ({error})", (0, 0)
    return {"available": not reason, "reason": reason, "first_id": first, "ids": count}


def _unsupported(reason: str) -> Unsupported:
    return Unsupported(
        "A user namespace",
        "user namespaces and idmapped mounts",
        hint=f"Here {reason}. Choose userns=host to run without.",
        field="security.userns",
        reason=reason,
    )
