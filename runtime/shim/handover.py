"""What a starter hands to its monitor when the container runs: one message with its descriptors.

The monitor reads no more of it than how many descriptors to watch, until
something happens: a monitor whose container is quiet has nothing of its own in memory.
"""

from __future__ import annotations

import json
from typing import Any

_INIT = "init"
_HEAD = 2  # bytes: how many to watch, whether there are timers

Descriptors = list[tuple[str, int]]  # by name


def pack_init(container_id: str, *children: int) -> bytes:
    """Before all else, with init's pidfd: whose monitor it is, and the pids of other children to wait for."""
    return f"{_INIT} {container_id} {' '.join(map(str, children))}".encode()


def unpack_init(data: bytes) -> tuple[str, list[int]] | None:
    """None when there is no init, because nothing has come of the start."""
    words = data.decode(errors="replace").split()
    return (words[1], [int(word) for word in words[2:]]) if words[:1] == [_INIT] else None


def pack(
    message: dict[str, Any], watched: Descriptors, rest: Descriptors
) -> tuple[bytes, list[int]]:
    """`watched` are those that tell when something happens."""
    every = [*watched, *rest]
    body = json.dumps({**message, "fds": [name for name, _ in every]})
    head = bytes((len(watched), message["plan"]["health"] is not None))
    return head + body.encode(), [fd for _, fd in every]


def watched(data: bytes, fds: list[int]) -> list[int]:
    return fds[: data[0]]


def has_timers(data: bytes) -> bool:
    """Things happen by themselves: it has a health check."""
    return bool(data[1])


def unpack(data: bytes, fds: list[int]) -> tuple[dict[str, Any], Descriptors]:
    message: dict[str, Any] = json.loads(data[_HEAD:])
    return message, list(zip(message["fds"], fds, strict=True))
