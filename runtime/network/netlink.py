"""One open rtnetlink socket of pyroute2, and the one thread that it lives in.

pyroute2 0.9 runs an event loop of its own below its plain calls: in any thread but the one it was opened
in it makes and closes a loop for every call, and in a thread whose own loop runs it cannot work at all.
A thread of its own has neither problem, for 0.1 ms a call; it also keeps the network namespace in which
it was started.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

T = TypeVar("T")


class Netlink:
    """Thread-safe; calls wait for each other. Close it when done."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="netlink")
        self._route: Any = self._thread.submit(IPRoute).result()

    def run(self, action: Callable[[Any], T]) -> T:
        """What `action` returns, given the IPRoute. Raises OSError with the kernel's errno."""
        return self._thread.submit(self._guarded, action).result()

    def close(self) -> None:
        self._thread.submit(self._route.close).result()
        self._thread.shutdown()

    def _guarded(self, action: Callable[[Any], T]) -> T:
        try:
            return action(self._route)
        except NetlinkError as error:
            raise OSError(error.code, str(error)) from error
