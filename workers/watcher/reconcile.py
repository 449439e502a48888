"""Facts from the engine into the replica: all of them every two seconds, one at once after an event."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

from django.db import DatabaseError

from runtime.errors import EngineError, NotFound
from runtime.model.state import Observed, Status
from webui.containers.models import Container
from webui.containers.services import container_apply_observed
from webui.operations.models import Operation
from workers.watcher.policy import Policy

logger = logging.getLogger(__name__)


class FactSource(Protocol):
    """The part of the engine that tells what is."""

    def observe(self, container_id: str) -> Observed: ...

    def reconcile(self, known_ids: set[str] | None) -> list[Observed]: ...

    def cleanup(self, container_id: str) -> None: ...


class Reconciler:
    """Keeps one host's replica true. Its methods run in threads, one at a time."""

    def __init__(self, *, engine: FactSource, host_id: str, policy: Policy) -> None:
        self._engine = engine
        self._host_id = host_id
        self._policy = policy
        self._statuses: dict[str, Status] = {}
        self._cleaned: dict[str, float] = {}  # id -> the end whose host side is cleared away
        self._lock = threading.Lock()

    def active(self) -> frozenset[str]:
        """Ids of the containers that had a shim when last looked at."""
        return frozenset(i for i, status in self._statuses.copy().items() if status.is_active)

    def round(self) -> None:
        """Reconcile everything and write what differs. Raises EngineError or OSError.

        With the database away the engine still looks after what runs, and collects no garbage.
        """
        with self._lock:
            try:
                known: set[str] | None = set(
                    Container.objects.filter(host_id=self._host_id).values_list("pk", flat=True)
                )
            except DatabaseError as error:
                logger.warning("The database cannot be read: %s", error)
                known = None
            everything = self._engine.reconcile(known)
            self._statuses = {observed.id: observed.status for observed in everything}
            if known is None:
                return
            in_work = self._in_work()
            self._policy.booted(everything)
            # Made after `known` was read: the engine took it for somebody else's.
            late = self._rows(o.id for o in everything if not o.managed)
            self._write(
                replace(observed, managed=observed.managed or observed.id in late)
                for observed in everything
                if observed.id not in in_work or observed.status.is_active
            )

    @staticmethod
    def _rows(ids: Iterable[str]) -> set[str]:
        chosen = list(ids)
        if not chosen:
            return set()
        return set(Container.objects.filter(pk__in=chosen).values_list("pk", flat=True))

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
            self._write([observed])

    def _write(self, everything: Iterable[Observed]) -> None:
        for observed in everything:
            # One broken container must not hide the others.
            try:
                container_apply_observed(container_id=observed.id, observed=observed)
                self._after(observed)
            except Container.DoesNotExist:
                continue
            except (EngineError, OSError):
                logger.exception("Container %s could not be reconciled.", observed.id[:12])

    def _after(self, observed: Observed) -> None:
        if observed.status != Status.EXITED or observed.run is None:
            return
        finished = observed.run.finished_at
        if self._cleaned.get(observed.id) != finished:
            self._engine.cleanup(observed.id)
            self._cleaned[observed.id] = finished
        self._policy.ended(observed)
