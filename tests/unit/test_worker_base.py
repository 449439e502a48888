"""Around every task: claimed once, every error in the row, and the end announced."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from runtime.errors import Cancelled, LauncherUnavailable, NotFound, SpecInvalid, StorageFull
from runtime.model.image import Progress
from webui.core import dispatch
from webui.hosts.models import Host
from webui.operations.models import Operation
from workers import base
from workers.base import Job, execute
from workers.identity import MAX_ATTEMPTS, process_name
from workers.pulse import LiveOperation, Pulse

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def operation() -> Operation:
    host = Host.objects.create(pk="f" * 32, name="here")
    return Operation.objects.create(
        host=host, kind="container.start", target_type="container", target_id="a" * 64
    )


@pytest.fixture(autouse=True)
def announced(monkeypatch: pytest.MonkeyPatch) -> list[Operation]:
    """What would have been said on Redis."""
    said: list[Operation] = []
    monkeypatch.setattr(dispatch, "announce", lambda operation, row=None: said.append(operation))
    monkeypatch.setattr(base, "RETRY_WAITS", (0.0, 0.0))
    return said


def now(operation: Operation) -> Operation:
    return Operation.objects.get(pk=operation.pk)


def test_the_result_of_a_task_is_the_operations(
    operation: Operation, announced: list[Operation]
) -> None:
    execute(str(operation.pk), lambda job: {"id": job.target})
    assert now(operation).status == Operation.Status.SUCCEEDED
    assert now(operation).result == {"id": "a" * 64}
    assert [each.pk for each in announced] == [operation.pk]


def test_a_task_that_comes_twice_runs_once(operation: Operation) -> None:
    ran: list[str] = []

    def body(job: Job) -> dict[str, Any]:
        ran.append(job.target)
        assert now(operation).claimed_by == process_name()
        execute(str(operation.pk), body)
        return {}

    execute(str(operation.pk), body)
    execute(str(operation.pk), body)
    assert len(ran) == 1


def test_a_message_cannot_make_an_operation_of_another_kind_of_it(operation: Operation) -> None:
    """Whoever writes to the broker knows ids, but what is done with them is the row's to say."""
    ran: list[str] = []

    def body(job: Job) -> dict[str, Any]:
        ran.append(job.operation.kind)
        return {}

    execute(str(operation.pk), body, kind="container.remove")
    assert ran == []
    assert now(operation).status == Operation.Status.PENDING
    execute(str(operation.pk), body, kind="container.start")
    assert ran == ["container.start"]


def test_an_operation_that_does_not_exist_is_no_error() -> None:
    execute("00000000-0000-0000-0000-000000000000", lambda job: {})


def test_an_engine_error_is_the_operations_error(operation: Operation) -> None:
    def body(job: Job) -> dict[str, Any]:
        raise SpecInvalid("limits.memory", "Too little.", hint="Use at least 6 MiB.")

    execute(str(operation.pk), body)
    error = now(operation).error
    assert now(operation).status == Operation.Status.FAILED
    assert error is not None
    assert (error["code"], error["extra"]["field"]) == ("spec_invalid", "limits.memory")


def test_an_error_nobody_foresaw_is_logged_once_and_called_internal(
    operation: Operation, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, logger="workers"):
        execute(str(operation.pk), lambda job: {"answer": 1 // 0})
    error = now(operation).error
    assert error is not None
    assert error["code"] == "internal"
    assert len([record for record in caplog.records if record.exc_info]) == 1


def test_an_error_that_passes_is_tried_again(operation: Operation) -> None:
    tries: list[int] = []

    def body(job: Job) -> dict[str, Any]:
        tries.append(1)
        if len(tries) < 3:
            raise LauncherUnavailable("not yet")
        return {}

    execute(str(operation.pk), body)
    assert now(operation).status == Operation.Status.SUCCEEDED


def test_an_error_that_stays_is_reported_after_some_tries(operation: Operation) -> None:
    tries: list[int] = []

    def body(job: Job) -> dict[str, Any]:
        tries.append(1)
        raise LauncherUnavailable("still not")

    execute(str(operation.pk), body)
    assert len(tries) == 3
    error = now(operation).error
    assert error is not None
    assert error["code"] == "launcher_unavailable"


def test_a_cancelled_operation_says_so(operation: Operation) -> None:
    def body(job: Job) -> dict[str, Any]:
        raise Cancelled("The pull was cancelled.")

    execute(str(operation.pk), body)
    assert now(operation).status == Operation.Status.CANCELLED


def test_after_a_failure_the_task_cleans_up_and_the_first_error_stays(
    operation: Operation,
) -> None:
    cleaned: list[str] = []

    def body(job: Job) -> dict[str, Any]:
        raise NotFound("No such image.")

    def clean_up(job: Job) -> None:
        cleaned.append(job.target)
        raise NotFound("Nothing to clean.")

    execute(str(operation.pk), body, clean_up)
    assert len(cleaned) == 1
    error = now(operation).error
    assert error is not None
    assert error["message"] == "No such image."


def test_a_clean_up_that_fails_is_done_again(operation: Operation) -> None:
    cleaned: list[str] = []

    def body(job: Job) -> dict[str, Any]:
        raise StorageFull("No space.")

    def clean_up(job: Job) -> None:
        cleaned.append(job.target)
        if len(cleaned) == 1:
            raise StorageFull("Still none.")

    execute(str(operation.pk), body, clean_up)
    assert len(cleaned) == 2
    assert now(operation).error["code"] == "storage_full"  # type: ignore[index]


def test_after_workers_that_died_one_only_cleans_up(operation: Operation) -> None:
    Operation.objects.update(attempts=MAX_ATTEMPTS)
    ran: list[str] = []

    def body(job: Job) -> dict[str, Any]:
        ran.append("body")
        return {}

    execute(str(operation.pk), body, lambda job: ran.append("clean up"))
    assert ran == ["clean up"]
    error = now(operation).error
    assert error is not None
    assert error["code"] == "worker_lost"


def test_a_tick_beats_reads_cancellations_and_writes_progress(operation: Operation) -> None:
    operation.status = Operation.Status.RUNNING
    operation.claimed_by = process_name()
    operation.save()
    live = LiveOperation(operation)
    live.report(Progress("layer", "downloading", 1, 10))
    live.report(Progress("layer", "downloading", 9, 10))
    assert now(operation).progress["parts"]["layer"]["current"] == 1
    live._written -= 1.0
    Operation.objects.filter(pk=operation.pk).update(cancel_requested=True)
    Pulse().tick([live], beat=True)
    assert live.cancelled.is_set()
    assert now(operation).heartbeat is not None
    assert now(operation).progress["parts"]["layer"]["current"] == 9


def test_a_worker_does_not_beat_for_an_operation_that_another_has_taken(
    operation: Operation,
) -> None:
    operation.status = Operation.Status.RUNNING
    operation.claimed_by = "somebody else"
    operation.save()
    Pulse().tick([LiveOperation(operation)], beat=True)
    assert now(operation).heartbeat is None
