"""When a container that has ended is started again, and how long after."""

from __future__ import annotations

from typing import Any

FIRST_DELAY = 0.1  # seconds, doubled each time
LONGEST_DELAY = 60.0
GOOD_RUN = 10.0  # seconds of running after which the delay begins anew


class RestartPolicy:
    """Docker's restart policies with its back-off (`docker run --restart`)."""

    def __init__(self, restart: dict[str, Any]) -> None:
        self.name = str(restart.get("name", "no"))
        self.max_retries = int(restart.get("max_retries", 0))
        self._delay = FIRST_DELAY
        self._retries = 0

    def replace(self, restart: dict[str, Any]) -> None:
        self.name = str(restart.get("name", "no"))
        self.max_retries = int(restart.get("max_retries", 0))

    def next_delay(self, code: int | None, ran_for: float) -> float | None:
        """Seconds until the next start, or None to stay down."""
        if ran_for >= GOOD_RUN:
            self._delay = FIRST_DELAY
        if self.name == "no" or (self.name == "on-failure" and code == 0):
            return None
        if self.name == "on-failure" and self.max_retries and self._retries >= self.max_retries:
            return None
        self._retries += 1
        delay, self._delay = self._delay, min(self._delay * 2, LONGEST_DELAY)
        return delay
