"""Waiting for a lock as long as it takes, unless the operation is cancelled meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from runtime.errors import Cancelled, LockTimeout
from runtime.store.locks import discard, locked

_LOOK = 0.5  # seconds between two looks at `cancelled`


@contextmanager
def held(
    path: Path, *, shared: bool = False, cancelled: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """Hold the lock named by `path`. Raises Cancelled.

    Without end, because what it waits for ends: a holder downloads or unpacks, with time-outs of its own,
    and the kernel lets go of a dead one's lock.
    """
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(locked(path, timeout=_LOOK, shared=shared))
                break
            except LockTimeout:
                if cancelled():
                    raise Cancelled("The operation was cancelled.") from None
        try:
            yield
        finally:
            if not shared:
                discard(path)  # one file per layer and blob would only pile up
