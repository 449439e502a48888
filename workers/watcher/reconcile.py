"""Facts from the engine into the replica: all of them every two seconds, one at once after an event."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from django.db import DatabaseError

from runtime.errors import EngineError, NotFound
from runtime.model.state import Observed, Status
from webui.containers.models import Container
from webui.containers.replica import container_apply_observed, container_missing, observed_values
from webui.hosts.models import Host
from webui.operations.models import Operation
from workers.watcher.policy import Policy

logger = logging.getLogger(__name__)

Row = dict[str, Any]

# The columns that say what was observed: read in one query, so that a round in which nothing happened
# costs the same for one container as for a thousand.
REPLICA = (
    "status",
    "status_error",
    "managed",
    "present",
    "pid",
    "started_at",
    "finished_at",
    "restart_count",
    "next_restart_at",
    "health",
    "exit_code",
    "exit_reason",
    "exit_error",
    "oom_killed",
)


# A watcher that begins sees all ends at once; what ended before that was told by the one before it.
_NEWS = 600.0  # seconds


class FactSource(Protocol):
    """The part of the engine that tells what is."""

    def observe(self, container_id: str) -> Observed: ...

    def reconcile(self, known_ids: set[str] | None) -> list[Observed]: ...

    def cleanup(self, container_id: str) -> None: ...

    def name_of(self, container_id: str) -> str: ...


class Reconciler:
    """Keeps one host's replica true. Its methods run in threads, one at a time."""

    def __init__(self, *, engine: FactSource, host_id: str, policy: Policy) -> None:
        self._engine = engine
        self._host_id = host_id
        self._policy = policy
        self._ended: Callable[[str], None] = lambda _: None
        self._statuses: dict[str, Status] = {}
        self._cleaned: dict[str, float] = {}  # id -> the end whose host side is cleared away
        self._unmanaged: list[Row] | None = None  # as last written
        self._lock = threading.Lock()

    def on_end(self, told: Callable[[str], None]) -> None:
        """Have `told` be called with the id of each container that has ended, in the thread of `look` and `round`."""
        self._ended = told

    def active(self) -> frozenset[str]:
        """Ids of the containers that had a shim when last looked at."""
        return frozenset(i for i, status in self._statuses.copy().items() if status.is_active)

    def round(self) -> None:
        """Reconcile everything and write what differs. Raises EngineError or OSError.

        With the database away the engine still looks after what runs, and collects no garbage.
        """
        with self._lock:
            try:
                rows: dict[str, Row] | None = {
                    row["pk"]: row
                    for row in Container.objects.filter(host_id=self._host_id).values(
                        "pk", *REPLICA
                    )
                }
            except DatabaseError as error:
                logger.warning("The database cannot be read: %s", error)
                rows = None
            everything = self._engine.reconcile(None if rows is None else set(rows))
            self._statuses = {observed.id: observed.status for observed in everything}
            if rows is None:
                return
            in_work = self._in_work()
            for observed in everything:
                if observed.id in rows and (
                    observed.id not in in_work or observed.status.is_active
                ):
                    self._write(observed, rows[observed.id])
            self._tell_unmanaged([o for o in everything if not o.managed])
            self._policy.booted([o for o in everything if o.id in rows])

    def _tell_unmanaged(self, found: list[Observed]) -> None:
        """What the database does not know is shown with its host; nobody touches it."""
        if found:
            # One that was made since the rows were read is known; a row comes before its bundle.
            known = set(
                Container.objects.filter(pk__in=[o.id for o in found]).values_list("pk", flat=True)
            )
            found = [o for o in found if o.id not in known]
        rows = [
            {"id": o.id, "name": self._engine.name_of(o.id), "status": str(o.status)} for o in found
        ]
        if rows != self._unmanaged:
            for row in rows:
                if row not in (self._unmanaged or []):
                    logger.warning("Container %(name)s (%(id)s) is not in the database.", row)
            Host.objects.filter(pk=self._host_id).update(unmanaged=rows)
            self._unmanaged = rows

    def _in_work(self) -> set[str]:
        """Containers with a live operation: what they lack is on its way, and its task writes the replica."""
        return set(
            Operation.objects.filter(
                host_id=self._host_id,
                target_type="container",
                status__in=(Operation.Status.PENDING, Operation.Status.RUNNING),
            ).values_list("target_id", flat=True)
        )

    def look(self, container_id: str) -> None:
        """Look at one container now, because something happened to it."""
        with self._lock:
            try:
                observed = self._engine.observe(container_id)
            except NotFound:
                # Removed, or being removed: the operation that does it says so.
                self._statuses.pop(container_id, None)
                return
            except (EngineError, OSError) as error:
                logger.warning("Cannot look at container %s: %s", container_id[:12], error)
                return
            self._statuses[container_id] = observed.status
            row = Container.objects.filter(pk=container_id).values("pk", *REPLICA).first()
            if row is not None:  # one that the database does not know is found by the next round
                self._write(observed, row)

    def _write(self, observed: Observed, row: Row) -> None:
        """Write what differs from `row`. One that is broken hides no other."""
        try:
            if observed.status == Status.UNKNOWN and self._is_missing(observed.id):
                if row["present"]:
                    container_missing(container_id=observed.id)
            elif differs(observed, row):
                container_apply_observed(container_id=observed.id, observed=observed)
            self._after(observed)
        except Container.DoesNotExist:
            # A bundle that the database does not know, or a row that was removed just now.
            return
        except (EngineError, OSError):
            logger.exception("Container %s could not be reconciled.", observed.id[:12])

    def _is_missing(self, container_id: str) -> bool:
        try:
            self._engine.observe(container_id)
        except NotFound:
            return True
        except (EngineError, OSError):
            pass
        return False

    def _after(self, observed: Observed) -> None:
        if observed.status == Status.DEAD:
            self._policy.ended(observed)
            return
        if observed.status != Status.EXITED or observed.run is None:
            return
        finished = observed.run.finished_at
        if self._cleaned.get(observed.id) != finished:
            self._engine.cleanup(observed.id)
            self._cleaned[observed.id] = finished
            if time.time() - finished < _NEWS:
                self._ended(observed.id)
        self._policy.ended(observed)


def differs(observed: Observed, row: Row) -> bool:
    """Whether the replica in `row` says something else than `observed`."""
    return any(row[name] != value for name, value in observed_values(observed).items())
