"""A selector with deadlines: all the concurrency that the resolver needs."""

from __future__ import annotations

import heapq
import itertools
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE


class Timer:
    """A deadline that can be called off."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        self.action = None


class Loop:
    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()

    def hear_signals(self) -> None:
        """Wake up for every signal that has a handler: one that arrives just before select() would otherwise be
        slept through, and its handler run at the next event. For the main thread alone.
        """
        signalled, wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        self.watch(signalled, READ, lambda: os.read(signalled, 512))

    def watch(self, file: Any, events: int, action: Callable[[], object]) -> None:
        """Call `action` whenever `file` is ready for `events`; replaces what was watched before."""
        try:
            self._selector.modify(file, events, action)
        except KeyError:
            self._selector.register(file, events, action)

    def pause(self, file: socket.socket, seconds: float) -> None:
        """Leave what is watched alone for so long, ready or not."""
        key = self._selector.unregister(file)

        def resume() -> None:
            if file.fileno() >= 0:  # not closed meanwhile
                self.watch(file, key.events, key.data)

        self.after(seconds, resume)

    def forget(self, file: socket.socket) -> None:
        """Stop watching and close."""
        try:
            self._selector.unregister(file)
        except (KeyError, ValueError):  # never watched, or closed already
            pass
        file.close()

    def after(self, seconds: float, action: Callable[[], None]) -> Timer:
        timer = Timer(action)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), timer))
        return timer

    def run(self) -> None:
        """Serve until an exception ends it."""
        while True:
            self.once()

    def once(self, limit: float | None = None) -> None:
        """Wait for one event or deadline, at most `limit` seconds, and act on what is due."""
        wait = limit
        while self._timers and self._timers[0][2].action is None:
            heapq.heappop(self._timers)
        if self._timers:
            due = max(0.0, self._timers[0][0] - time.monotonic())
            wait = due if wait is None else min(wait, due)
        for key, _ in self._selector.select(wait):
            # An earlier action of this round may have closed it.
            if self._selector.get_map().get(key.fd) is key:
                key.data()
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            action = heapq.heappop(self._timers)[2].action
            if action is not None:
                action()
