"""Threads for requests that outlive them, so that database connections do, too.

asgiref gives each request a thread of its own, with which its database connection ends: opening SQLite
takes a millisecond, PostgreSQL five, out of the ten that a request may take.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from asgiref.sync import ThreadSensitiveContext

KEPT = 4  # idle threads; more requests than that at once get, and end, threads of their own

_idle: list[_Thread] = []


class _Thread(ThreadPoolExecutor):
    """One thread, that knows whether it still works."""

    def __init__(self) -> None:
        super().__init__(max_workers=1, thread_name_prefix="request")
        self._last: Future[Any] | None = None

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self._last = super().submit(fn, *args, **kwargs)
        return self._last

    @property
    def busy(self) -> bool:
        return self._last is not None and not self._last.done()


@asynccontextmanager
async def request_thread() -> AsyncIterator[None]:
    """Run the block's sync code in an idle thread, and leave that for the next request.

    A view whose client has gone away goes on in its thread; that one is not handed on.
    """
    thread = _idle.pop() if _idle else _Thread()
    try:
        async with ThreadSensitiveContext(executor=thread):
            yield
    finally:
        if thread.busy or len(_idle) >= KEPT:
            thread.shutdown(wait=False)
        else:
            _idle.append(thread)
