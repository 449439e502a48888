"""Where the time of a task goes."""

from __future__ import annotations

import time


class Stages:
    """Milliseconds of each stage, in the order in which they ended."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self.ended: list[tuple[str, float]] = []

    def note(self, name: str) -> None:
        """The stage that has just ended."""
        now = time.perf_counter()
        self.ended.append((name, round((now - self._last) * 1000, 3)))
        self._last = now
