"""Operations that nobody works on are sent again, run again, or failed with a reason."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from webui.hosts.models import Host
from webui.operations.models import Operation
from workers.identity import MAX_ATTEMPTS, process_name
from workers.watcher.sweep import LONGEST_WAIT, STALE, UNCLAIMED, Sweep

pytestmark = pytest.mark.django_db(transaction=True)

DEAD = "1.1.00000000"


class Broker:
    """Takes messages, or not; and a clock."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.down = False
        self.time = 0.0
        self.sweep = Sweep(
            host_id="f" * 32,
            send=self.send,
            clock=lambda: self.time,
        )

    def send(self, kind: str, operation_id: str) -> None:
        if self.down:
            raise ConnectionError("no Redis")
        self.sent.append(operation_id)

    def after(self, seconds: float) -> int:
        """One round later; how many messages it sent."""
        self.time += seconds
        before = len(self.sent)
        self.sweep.round()
        return len(self.sent) - before


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def host() -> Host:
    return Host.objects.create(pk="f" * 32, name="here")


def operation(host: Host, **fields: object) -> Operation:
    made = Operation.objects.create(
        host=host, kind="container.start", target_type="container", target_id="a" * 64
    )
    Operation.objects.filter(pk=made.pk).update(**fields)
    return made


def running(host: Host, worker: str, *, attempts: int = 1, silent: float = 0.0) -> Operation:
    return operation(
        host,
        status=Operation.Status.RUNNING,
        claimed_by=worker,
        attempts=attempts,
        heartbeat=timezone.now() - timedelta(seconds=silent),
    )


def test_a_new_operation_is_left_to_its_message(broker: Broker, host: Host) -> None:
    operation(host)
    assert broker.after(0) == 0


def test_an_operation_whose_message_was_lost_is_sent_again(broker: Broker, host: Host) -> None:
    operation(host, created_at=timezone.now() - timedelta(seconds=UNCLAIMED))
    assert broker.after(0) == 1


def test_it_is_sent_ever_more_rarely(broker: Broker, host: Host) -> None:
    operation(host, created_at=timezone.now() - timedelta(hours=1))
    assert [broker.after(0), broker.after(2), broker.after(2 * UNCLAIMED)] == [1, 0, 1]
    for _ in range(10):
        broker.after(LONGEST_WAIT)
    assert [broker.after(LONGEST_WAIT / 2), broker.after(LONGEST_WAIT / 2)] == [0, 1]


def test_what_could_not_be_sent_goes_as_soon_as_the_broker_is_back(
    broker: Broker, host: Host
) -> None:
    operation(host, created_at=timezone.now() - timedelta(hours=1))
    broker.down = True
    for _ in range(20):
        broker.after(2)
    broker.down = False
    assert broker.after(2) == 1


def test_an_operation_at_work_is_left_alone(broker: Broker, host: Host) -> None:
    at_work = running(host, process_name())
    assert broker.after(0) == 0
    assert Operation.objects.get(pk=at_work.pk).status == Operation.Status.RUNNING


@pytest.mark.parametrize(
    ("worker", "silent"),
    [pytest.param(DEAD, 0.0, id="dead"), pytest.param(process_name(), STALE + 1, id="stuck")],
)
def test_an_operation_that_lost_its_worker_runs_again(
    broker: Broker, host: Host, worker: str, silent: float
) -> None:
    lost = running(host, worker, silent=silent)
    assert broker.after(0) == 1
    again = Operation.objects.get(pk=lost.pk)
    assert (again.status, again.claimed_by) == (Operation.Status.PENDING, "")


def test_an_operation_that_kills_its_workers_fails_in_the_end(broker: Broker, host: Host) -> None:
    lost = running(host, DEAD, attempts=MAX_ATTEMPTS)
    assert broker.after(0) == 1  # once more, to clean up
    Operation.objects.update(
        status=Operation.Status.RUNNING, claimed_by=DEAD, attempts=MAX_ATTEMPTS + 1
    )
    assert broker.after(0) == 0
    failed = Operation.objects.get(pk=lost.pk)
    assert failed.status == Operation.Status.FAILED
    assert failed.error is not None
    assert failed.error["code"] == "worker_lost"


def test_another_hosts_operations_are_not_ours(broker: Broker, host: Host) -> None:
    other = Host.objects.create(pk="e" * 32, name="there")
    running(other, DEAD)
    assert broker.after(0) == 0
