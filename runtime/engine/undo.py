"""Steps that take themselves back: an ExitStack that lets no failed cleanup hide the cause."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from runtime.errors import CreateFailed, EngineError


class Undo:
    """Collects how to take back what was done; runs it, last first, when the block raises.

    >>> with Undo() as undo:
    ...     make_group()
    ...     undo.push(remove_group)
    ...     start_process()

    An EngineError leaves as it is when every cleanup worked, as CreateFailed(error, cleanup_errors)
    when one did not. Other exceptions leave unchanged, with the failed cleanups as notes.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    def push(self, step: Callable[..., Any], *args: Any) -> None:
        self._steps.append((step, args))

    def __enter__(self) -> Undo:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            return
        failed: list[BaseException] = []
        for step, args in reversed(self._steps):
            try:
                step(*args)
            except (EngineError, OSError) as cleanup:
                failed.append(cleanup)
        if not failed:
            return
        if isinstance(error, EngineError):
            raise CreateFailed(error, failed) from error
        for failure in failed:
            error.add_note(f"Cleanup failed as well: {failure}")
