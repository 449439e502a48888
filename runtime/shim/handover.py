"""What a starter hands to its monitor when the container runs: one message with its descriptors.

The monitor reads no more of it than whose monitor it is and how many descriptors to watch, until
something happens: a monitor whose container is quiet has nothing of its own in memory.
"""

from __future__ import annotations

import json
from typing import Any

_INIT, _MAX_INIT = "init", 200  # bytes
_HEAD = 66  # bytes: how many to watch, whether there are timers; the container's id

Descriptors = list[tuple[str, int]]  # by name


def pack_init(*children: int) -> bytes:
    """Before all else, with init's pidfd: who it is that makes it, by the pids of other children to wait for."""
    return f"{_INIT} {' '.join(map(str, children))}".encode()


def unpack_init(data: bytes) -> list[int] | None:
    """None for another message, or none."""
    words = data[:_MAX_INIT].split()
    return [int(word) for word in words[1:]] if words[:1] == [_INIT.encode()] else None


def pack(
    message: dict[str, Any], state: bytes, watched: Descriptors, rest: Descriptors
) -> tuple[bytes, list[int]]:
    """`state` is the JSON of the run state; `watched` are those that tell when something happens."""
    every = [*watched, *rest]
    body = json.dumps({**message, "fds": [name for name, _ in every]})
    plan = message["plan"]
    head = bytes((len(watched), plan["health"] is not None)) + plan["id"].encode().ljust(_HEAD - 2)
    return head + body.encode() + b"\n" + state, [fd for _, fd in every]


def watched(data: bytes, fds: list[int]) -> list[int]:
    return fds[: data[0]]


def name(data: bytes) -> str:
    """The container's id."""
    return data[2:_HEAD].decode().rstrip()


def has_timers(data: bytes) -> bool:
    """Things happen by themselves: it has a health check."""
    return bool(data[1])


def unpack(data: bytes, fds: list[int]) -> tuple[dict[str, Any], Descriptors]:
    """The message has the run state as "state"."""
    body, state = data[_HEAD:].split(b"\n", 1)
    message: dict[str, Any] = {**json.loads(body), "state": json.loads(state)}
    return message, list(zip(message["fds"], fds, strict=True))
