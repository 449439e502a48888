"""Resource limits by the names that `docker run --ulimit` has for them (getrlimit(2))."""

from __future__ import annotations

import resource

_LOCKS = 10  # asm-generic/resource.h; kept for programs of old, and without a name in Python


def number_of(name: str) -> int | None:
    """The kernel's number of "nofile"; None for a name that it does not know."""
    if name == "locks":
        return _LOCKS
    found: int | None = getattr(resource, f"RLIMIT_{name.upper()}", None)
    return found
