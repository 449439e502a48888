"""The heartbeat of a worker's running operations: one thread, one statement for all of them.

The same tick reads who asked for a cancellation and writes progress that came too fast to be written at
once, so that a task itself never waits for any of it.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any
from uuid import UUID

from django.db import DatabaseError, connections
from django.utils import timezone

from runtime.model.codec import to_json
from runtime.model.image import Progress
from webui.operations.models import Operation
from webui.operations.services import operation_progress
from workers.identity import process_name

logger = logging.getLogger(__name__)

TICK = 1.0  # seconds; also how long a cancellation takes to be noticed
BEAT = 5.0  # seconds between heartbeats; the watcher waits several of them before it acts
PROGRESS_INTERVAL = 0.2  # seconds between two writes of one operation's progress


class LiveOperation:
    """One operation while a task works on it: its progress and its cancellation."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.cancelled = threading.Event()
        self._lock = threading.Lock()
        self._parts: dict[str, Any] = {}
        self._text = ""
        self._dirty = False
        self._written = 0.0

    def report(self, progress: Progress) -> None:
        """Take one step of progress; it reaches the database now or at a later tick."""
        with self._lock:
            self._parts[progress.part] = to_json(progress)
            self._dirty = True
        self.flush()

    def say(self, text: str) -> None:
        """Say in words what is being done."""
        with self._lock:
            self._text = text
            self._dirty = True
        self.flush()

    def flush(self) -> None:
        """Write progress if there is new progress and the last write is long enough ago."""
        with self._lock:
            now = time.monotonic()
            if not self._dirty or now - self._written < PROGRESS_INTERVAL:
                return
            self._dirty, self._written = False, now
            value = {"parts": dict(self._parts), "text": self._text}
        try:
            operation_progress(operation=self.operation, progress=value)
        except DatabaseError as error:
            logger.warning("Progress of operation %s was not written: %s", self.operation.pk, error)


class Pulse:
    """Beats for every live operation of this process; its thread sleeps while there is none."""

    def __init__(self) -> None:
        self._live: dict[UUID, LiveOperation] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def enter(self, operation: Operation) -> LiveOperation:
        live = LiveOperation(operation)
        with self._lock:
            self._live[operation.pk] = live
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)
                self._thread.start()
        self._wake.set()
        return live

    def leave(self, live: LiveOperation) -> None:
        with self._lock:
            self._live.pop(live.operation.pk, None)

    def _run(self) -> None:
        beaten = time.monotonic()
        while True:
            self._wake.wait()
            time.sleep(TICK)
            with self._lock:
                lives = list(self._live.values())
                if not lives:
                    self._wake.clear()
            if not lives:
                connections.close_all()
                continue
            beat = time.monotonic() - beaten >= BEAT
            if beat:
                beaten = time.monotonic()
            try:
                self.tick(lives, beat=beat)
            except DatabaseError as error:
                logger.warning("No heartbeat was written: %s", error)
            finally:
                # Not held between rounds: the next may find another server behind the same address.
                connections.close_all()

    def tick(self, lives: list[LiveOperation], *, beat: bool) -> None:
        """One round for `lives`: heartbeat when due, cancellations, progress left over."""
        rows = Operation.objects.filter(pk__in=[live.operation.pk for live in lives])
        if beat:
            mine = rows.filter(status=Operation.Status.RUNNING, claimed_by=process_name())
            mine.update(heartbeat=timezone.now())
        asked = set(rows.filter(cancel_requested=True).values_list("pk", flat=True))
        for live in lives:
            if live.operation.pk in asked:
                live.cancelled.set()
            live.flush()


pulse = Pulse()
