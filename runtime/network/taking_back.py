"""Steps that take back what could not be made whole: each is tried, whatever fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from runtime.errors import EngineError

log = logging.getLogger(__name__)
_TRIES = 3  # not every error comes again


def take_back(steps: Iterable[Callable[[], object]], name: str) -> None:
    """Run each step, again when it fails; what stays of the network `name` is logged."""
    waiting = list(steps)
    for left in reversed(range(_TRIES)):
        waiting = [step for step in waiting if not _done(step, name, last=not left)]


def _done(step: Callable[[], object], name: str, *, last: bool) -> bool:
    try:
        step()
    except (EngineError, OSError):
        if last:
            log.exception("A part of network %s, which is being taken back, stays.", name)
        return False
    return True
