"""Work that may wait a moment: done once, however often it is asked for in the meantime."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable

from django.conf import settings
from django.db import connections

logger = logging.getLogger(__name__)


class Soon:
    """One thread, which sleeps while nobody asks for anything."""

    def __init__(self) -> None:
        self._asked: dict[Hashable, tuple[float, Callable[[], None]]] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def ask(self, key: Hashable, work: Callable[[], None]) -> None:
        """Have `work` done `settings.SOON` seconds after the first to ask for `key`; at once when that is 0.

        A fault in it is logged: nobody waits for it any more.
        """
        if not settings.SOON:
            work()
            return
        with self._changed:
            due = self._asked[key][0] if key in self._asked else time.monotonic() + settings.SOON
            self._asked[key] = (due, work)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="soon", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            for work in self._due():
                try:
                    work()
                except Exception:
                    logger.exception("Something that could wait has failed.")
            # Not held while there is nothing to do.
            connections.close_all()

    def _due(self) -> list[Callable[[], None]]:
        """What is due, as soon as there is something."""
        with self._changed:
            while True:
                now = time.monotonic()
                keys = [key for key, (due, _) in self._asked.items() if due <= now]
                if keys:
                    return [self._asked.pop(key)[1] for key in keys]
                # In the order of asking, which is that of the times.
                first = next(iter(self._asked.values()), None)
                self._changed.wait(None if first is None else first[0] - now)


soon = Soon()
