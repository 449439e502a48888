"""What surrounds every task: claim, heartbeat, errors, retries, and the outcome.

A task takes the id of an operation and nothing else, so that writing to the broker never means running a
spec of one's choice as root. It may be delivered twice or begun again after a crash: the claim is a
compare-and-set, and each step of the engine finds itself already done.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, close_old_connections

from runtime.errors import Cancelled, EngineError, NotFound
from runtime.model.image import Progress
from webui.operations.models import Operation
from webui.operations.services import operation_claim, operation_fail, operation_succeed
from workers import instance
from workers.app import app
from workers.identity import MAX_ATTEMPTS, process_name, worker_lost
from workers.pulse import LiveOperation, pulse

if TYPE_CHECKING:
    from runtime.engine import Engine

logger = logging.getLogger(__name__)

# A launcher that is being restarted, a lock held by a slow stop, a registry that hiccups: worth a short
# wait inside the task. What lasts longer is an error that somebody should read.
RETRY_WAITS = (0.2, 0.5, 1.0, 2.0)  # seconds
_CLEAN_UP_WAITS = (0.05, 0.5)  # what made the operation fail may have passed
_SAVE_WAITS = (0.1, 0.5, 1.0, 3.0)  # for the outcome, when the database is busy

Body = Callable[["Job"], dict[str, Any]]


class Job:
    """One operation being worked on: what a task's body gets."""

    def __init__(self, live: LiveOperation) -> None:
        self._live = live
        self.operation = live.operation
        self.params: dict[str, Any] = live.operation.params
        self.target: str = live.operation.target_id

    @property
    def engine(self) -> Engine:
        return instance.engine()

    def progress(self, step: Progress) -> None:
        """Record one step of one part; at most five writes a second reach the database."""
        self._live.report(step)

    def say(self, text: str) -> None:
        """Record what is being done, in words."""
        self._live.say(text)

    def cancelled(self) -> bool:
        """Whether somebody asked for a cancellation; costs nothing to call."""
        return self._live.cancelled.is_set()

    def wait(self, seconds: float) -> None:
        """Sleep, or raise Cancelled as soon as somebody asks for it."""
        if self._live.cancelled.wait(seconds):
            raise Cancelled("The operation was cancelled.")


def operation_task(
    kind: str, *, on_failure: Callable[[Job], None] | None = None
) -> Callable[[Body], Body]:
    """Register `body` as the Celery task `kind`. What it returns becomes the operation's result.

    `on_failure` runs once after the last attempt failed, or its worker died, before the failure is written.
    """

    def register(body: Body) -> Body:
        def run(operation_id: str) -> None:
            execute(operation_id, body, on_failure, kind=kind)

        run.__name__, run.__doc__, run.__module__ = body.__name__, body.__doc__, body.__module__
        app.task(name=kind)(run)
        return body

    return register


def execute(
    operation_id: str,
    body: Body,
    on_failure: Callable[[Job], None] | None = None,
    *,
    kind: str = "",
) -> None:
    """Work on one operation, if it is still to be done; every error ends up in its row.

    `kind` is the name that the message had: the row says what is to be done, so that a forged message cannot
    turn a start into a removal.
    """
    close_old_connections()
    try:
        operation = operation_claim(operation_id=operation_id, worker=process_name(), kind=kind)
        if operation is None:
            logger.info("Operation %s is done or taken already, or another one.", operation_id)
            return
        live = pulse.enter(operation)
        try:
            job = Job(live)
            error, result = _attempt(job, body)
            if error is not None and on_failure is not None:
                _clean_up(job, on_failure)
        finally:
            pulse.leave(live)
        _finish(operation, error, result)
    except DatabaseError:
        # The row stays as it is. The watcher finds it pending, or running with no heartbeat, and sends
        # it again once the database answers.
        logger.exception("The database failed while working on operation %s.", operation_id)
    finally:
        close_old_connections()


def _attempt(job: Job, body: Body) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """(error payload or None, result) of the body, begun again after errors that pass."""
    if job.operation.attempts > MAX_ATTEMPTS:
        # Nobody begins it again; but what those who died on it have left half done is put right.
        return worker_lost(MAX_ATTEMPTS), {}
    waits = iter(RETRY_WAITS)
    while True:
        try:
            try:
                return None, body(job)
            except EngineError as error:
                wait = next(waits, None) if error.retryable else None
                if wait is None:
                    raise
                logger.warning("%s: %s Trying again.", job.operation, error)
                job.wait(wait)
        except EngineError as error:
            logger.info("%s failed: %s: %s", job.operation, error.code, error)
            return error.payload(), {}
        except DatabaseError:
            raise
        except Exception as error:
            logger.exception(
                "%s failed unexpectedly (operation %s).", job.operation, job.operation.pk
            )
            return internal_error(error), {}


def _clean_up(job: Job, on_failure: Callable[[Job], None]) -> None:
    """Run `on_failure`, again when it fails as well; what remains is logged and does not hide the first error."""
    for wait in (*_CLEAN_UP_WAITS, None):
        try:
            on_failure(job)
            return
        except DatabaseError:
            raise
        except EngineError as error:
            logger.warning("After %s failed: %s", job.operation, error)
            if isinstance(error, NotFound):
                return
        except Exception:
            logger.exception("After %s failed (operation %s).", job.operation, job.operation.pk)
        if wait is not None:
            time.sleep(wait)


def internal_error(error: Exception) -> dict[str, Any]:
    """The payload of an error that nobody foresaw."""
    return {
        "code": "internal",
        "message": f"Slipway made a mistake: {type(error).__name__}: {error}",
        "hint": "The worker's log holds the details.",
        "retryable": False,
        "extra": {},
    }


def _finish(operation: Operation, error: dict[str, Any] | None, result: dict[str, Any]) -> None:
    """Write the outcome, patiently: the work is done, and only this row does not know it yet."""
    for wait in (*_SAVE_WAITS, None):
        try:
            if error is None:
                operation_succeed(operation=operation, result=result)
            else:
                operation_fail(operation=operation, error=error)
            return
        except DatabaseError:
            if wait is None:
                raise
            time.sleep(wait)
