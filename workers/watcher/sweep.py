"""Operations that nobody works on: sent again, or failed with a reason.

Redis may lose a message and a worker may die at any moment. The operation's row is what is left, and this
is what looks at it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from django.utils import timezone
from redis.exceptions import RedisError

from webui.operations.models import Operation
from webui.operations.services import operation_fail
from workers.identity import MAX_ATTEMPTS, is_alive, worker_lost

logger = logging.getLogger(__name__)

UNCLAIMED = 3.0  # seconds after which a pending operation is sent again
LONGEST_WAIT = 60.0  # between two sends of one operation: a busy worker has them queued already
STALE = 30.0  # seconds without a heartbeat, several beats, after which a worker is taken for stuck


class Sweep:
    """Looks after one host's live operations. `send` puts one into the host's queue; it may raise."""

    def __init__(
        self,
        *,
        host_id: str,
        send: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host_id = host_id
        self._send = send
        self._clock = clock
        self._due: dict[UUID, float] = {}  # when to send a pending one (again)
        self._waits: dict[UUID, float] = {}
        self._broker_down = False

    def round(self) -> None:
        """One look at every live operation. Raises DatabaseError."""
        live = list(
            Operation.objects.filter(
                host_id=self._host_id,
                status__in=(Operation.Status.PENDING, Operation.Status.RUNNING),
            )
        )
        for operation in live:
            if operation.status == Operation.Status.RUNNING:
                self._look_at_running(operation)
            else:
                self._look_at_pending(operation)
        known = {operation.pk for operation in live}
        for pk in self._due.keys() - known:
            self._due.pop(pk)
            self._waits.pop(pk, None)

    def _look_at_pending(self, operation: Operation) -> None:
        now = self._clock()
        if operation.pk not in self._due:
            age = (timezone.now() - operation.created_at).total_seconds()
            self._due[operation.pk] = now + max(0.0, UNCLAIMED - age)
            self._waits[operation.pk] = UNCLAIMED
        if now < self._due[operation.pk]:
            return
        wait = min(self._waits[operation.pk] * 2, LONGEST_WAIT)
        try:
            self._send(operation.kind, str(operation.pk))
        except (RedisError, OSError) as error:
            # As soon as the broker answers, not after a wait that grew while it was away.
            self._due[operation.pk] = now
            if not self._broker_down:
                logger.warning("The broker takes no messages: %s", error)
            self._broker_down = True
            return
        self._broker_down = False
        self._waits[operation.pk] = wait
        self._due[operation.pk] = now + wait
        logger.info("Operation %s (%s) was sent again.", operation.pk, operation.kind)

    def _look_at_running(self, operation: Operation) -> None:
        beat = operation.heartbeat or operation.started_at or operation.created_at
        gone = not is_alive(operation.claimed_by)
        if not gone and timezone.now() - beat < timedelta(seconds=STALE):
            return
        if operation.attempts <= MAX_ATTEMPTS:
            if self._release(operation):
                logger.warning(
                    "Operation %s (%s) lost its worker; it will run again.",
                    operation.pk,
                    operation.kind,
                )
                self._due[operation.pk] = self._clock()
                self._waits[operation.pk] = UNCLAIMED
                self._look_at_pending(operation)
            return
        logger.error("Operation %s (%s) lost its worker again.", operation.pk, operation.kind)
        operation_fail(operation=operation, error=worker_lost(operation.attempts))

    @staticmethod
    def _release(operation: Operation) -> bool:
        """Back to pending, unless its worker or another watcher was quicker."""
        changed = Operation.objects.filter(
            pk=operation.pk,
            status=Operation.Status.RUNNING,
            claimed_by=operation.claimed_by,
            heartbeat=operation.heartbeat,
        ).update(status=Operation.Status.PENDING, claimed_by="")
        return changed == 1
