"""What the watcher writes, cleans up and asks for after looking."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from django.db import DatabaseError

from runtime.errors import KernelFailure, NotFound
from runtime.model.state import ExitReason, ExitRecord, Observed, RunState, Status
from webui.containers.models import Container
from webui.hosts.models import Host
from webui.operations.models import Operation
from workers.watcher.policy import REMOVAL_PAUSE, SHIM_LOST_PAUSE, Policy, comes_back
from workers.watcher.reconcile import Reconciler

pytestmark = pytest.mark.django_db(transaction=True)

HOST, BOOT = "f" * 32, "this-boot"
A, B = "a" * 64, "b" * 64


def ended(reason: ExitReason, *, at: float = 2.0, user_stopped: bool = False) -> RunState:
    record = ExitRecord(code=3, reason=reason, started_at=1.0, finished_at=at)
    return RunState(Status.EXITED, BOOT, finished_at=at, exit=record, user_stopped=user_stopped)


RUNNING = RunState(Status.RUNNING, BOOT, pid=7, started_at=1.0)


class FakeEngine:
    """A host with the containers in `observed`."""

    def __init__(self) -> None:
        self.observed: dict[str, Observed] = {}
        self.known: list[set[str] | None] = []
        self.cleaned: list[str] = []

    def has(self, container_id: str, run: RunState) -> None:
        self.observed[container_id] = Observed(container_id, run.status, run)

    def observe(self, container_id: str) -> Observed:
        if container_id not in self.observed:
            raise NotFound("gone")
        return self.observed[container_id]

    def reconcile(self, known_ids: set[str] | None) -> list[Observed]:
        self.known.append(known_ids)
        here = [
            replace(o, managed=known_ids is None or o.id in known_ids)
            for o in self.observed.values()
        ]
        missing = (known_ids or set()) - self.observed.keys()
        return here + [Observed(i, Status.UNKNOWN, None, error="missing") for i in missing]

    def cleanup(self, container_id: str) -> None:
        self.cleaned.append(container_id)

    def name_of(self, container_id: str) -> str:
        return f"name-{container_id[:2]}"


class World:
    """A host's row, its engine and a watcher's reconciler."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.engine = FakeEngine()
        self.host = Host.objects.create(pk=HOST, name="here", boot_id=BOOT)
        self.policy = Policy(host_id=HOST, boot_id=BOOT, clock=lambda: self.time)
        self.reconciler = Reconciler(engine=self.engine, host_id=HOST, policy=self.policy)

    def container(self, container_id: str = A, **spec: Any) -> Container:
        return Container.objects.create(
            pk=container_id, host=self.host, name=container_id[:4], spec=spec, present=True
        )

    def status(self, container_id: str = A) -> str:
        return Container.objects.get(pk=container_id).status

    def asked(self) -> list[str]:
        return list(Operation.objects.order_by("created_at").values_list("kind", flat=True))


@pytest.fixture
def world() -> World:
    return World()


def test_what_is_seen_is_written(world: World) -> None:
    world.container()
    world.engine.has(A, RUNNING)
    world.reconciler.round()
    assert world.status() == Status.RUNNING
    assert world.reconciler.active() == {A}


def test_an_event_is_looked_at_at_once(world: World) -> None:
    world.container()
    world.engine.has(A, RUNNING)
    world.reconciler.look(A)
    assert world.status() == Status.RUNNING
    world.engine.has(A, ended("exited"))
    world.reconciler.look(A)
    assert world.status() == Status.EXITED
    assert Container.objects.get(pk=A).exit_code == 3
    assert world.reconciler.active() == frozenset()


def test_the_hosts_side_of_an_end_is_cleared_once(world: World) -> None:
    world.container()
    world.engine.has(A, ended("exited"))
    world.reconciler.round()
    world.reconciler.round()
    assert world.engine.cleaned == [A]
    # It ran and ended again while nobody looked.
    world.engine.has(A, ended("exited", at=9.0))
    world.reconciler.round()
    assert world.engine.cleaned == [A, A]


def test_an_end_is_told_once_and_soon_after_it(world: World) -> None:
    told: list[str] = []
    world.reconciler.on_end(told.append)
    for container_id, at in ((A, time.time()), (B, 2.0)):
        world.container(container_id)
        world.engine.has(container_id, ended("exited", at=at))
    world.reconciler.look(A)
    world.reconciler.round()
    assert told == [A], "of what ended long ago there is no news"
    world.engine.has(A, ended("exited", at=time.time()))
    world.reconciler.round()
    assert told == [A, A]


def test_an_event_about_a_container_that_is_gone_is_no_error(world: World) -> None:
    world.reconciler.look(A)


def test_with_the_database_away_the_engine_is_told_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> Any:
        raise DatabaseError("away")

    monkeypatch.setattr(Container.objects, "filter", away)
    world.engine.has(A, RUNNING)
    world.reconciler.round()
    assert world.engine.known == [None]
    assert world.reconciler.active() == {A}


def test_a_container_that_is_being_made_is_not_missing(world: World) -> None:
    world.container()
    operation(world, "container.create")
    world.reconciler.round()
    assert world.status() == Status.CREATED


def test_a_container_without_anything_on_the_host_is_shown_so(world: World) -> None:
    world.container()
    world.reconciler.round()
    assert world.status() == Status.UNKNOWN


def test_one_that_cannot_be_cleared_hides_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(container_id: str) -> None:
        raise KernelFailure("rmdir", 16, container_id)

    monkeypatch.setattr(world.engine, "cleanup", refuse)
    world.container(A)
    world.container(B)
    world.engine.has(A, ended("exited"))
    world.engine.has(B, RUNNING)
    world.reconciler.round()
    assert world.status(B) == Status.RUNNING


def operation(world: World, kind: str) -> Operation:
    return Operation.objects.create(
        host=world.host, kind=kind, target_type="container", target_id=A
    )


# -- what the system asks for -------------------------------------------------------------------


def test_an_auto_remove_container_is_removed_once(world: World) -> None:
    world.container(auto_remove=True)
    world.engine.has(A, ended("exited"))
    world.reconciler.look(A)
    world.reconciler.look(A)
    assert world.asked() == ["container.remove"]
    assert Operation.objects.get().via == "system"


def test_an_auto_remove_container_whose_removal_failed_is_removed_again(world: World) -> None:
    world.container(auto_remove=True)
    world.engine.has(A, ended("exited"))
    world.reconciler.look(A)
    Operation.objects.update(status=Operation.Status.FAILED)
    world.engine.observed[A] = Observed(A, Status.DEAD, None, error="Something held it.")
    world.reconciler.round()
    assert world.asked() == ["container.remove"]
    world.time += REMOVAL_PAUSE
    world.reconciler.round()
    assert world.asked() == ["container.remove"] * 2


def test_an_auto_remove_container_that_ends_within_its_own_start_is_removed_after_it(
    world: World,
) -> None:
    world.container(auto_remove=True)
    start = operation(world, "container.create")
    world.engine.has(A, ended("exited"))
    world.reconciler.look(A)
    assert world.asked() == ["container.create"]
    Operation.objects.filter(pk=start.pk).update(status=Operation.Status.SUCCEEDED)
    world.reconciler.round()
    assert world.asked() == ["container.create", "container.remove"]


def test_a_container_that_stays_is_not_removed(world: World) -> None:
    world.container(restart={"name": "no"})
    world.engine.has(A, ended("exited"))
    world.reconciler.look(A)
    assert world.asked() == []


def test_a_container_whose_monitor_died_is_started_as_its_policy_says(world: World) -> None:
    world.container(restart={"name": "always"})
    world.engine.has(A, ended("shim_lost"))
    world.reconciler.look(A)
    assert world.asked() == ["container.start"]


def test_one_whose_monitor_keeps_dying_is_started_now_and_then(world: World) -> None:
    world.container(restart={"name": "always"})
    for number in range(3):
        world.engine.has(A, ended("shim_lost", at=float(number)))
        world.reconciler.look(A)
        Operation.objects.update(status=Operation.Status.SUCCEEDED)
    assert world.asked() == ["container.start"]
    world.time += SHIM_LOST_PAUSE
    world.reconciler.look(A)
    assert world.asked() == ["container.start"] * 2


def test_after_a_reboot_those_that_should_run_are_started_once(world: World) -> None:
    world.host.boot_id = "the-boot-before"
    world.host.save()
    world.container(A, restart={"name": "always"})
    world.container(B, restart={"name": "no"})
    for container_id in (A, B):
        world.engine.has(container_id, ended("reboot"))
    world.reconciler.round()
    world.reconciler.round()
    assert world.asked() == ["container.start"]
    assert Host.objects.get().boot_id == BOOT


def test_a_hosts_first_round_starts_nothing(world: World) -> None:
    world.host.boot_id = ""
    world.host.save()
    world.container(A, restart={"name": "always"})
    world.engine.has(A, ended("exited"))
    world.reconciler.round()
    assert world.asked() == []


@pytest.mark.parametrize(
    ("policy", "run", "expected"),
    [
        ("always", ended("reboot"), True),
        ("always", ended("stopped", user_stopped=True), True),
        ("unless-stopped", ended("reboot"), True),
        ("unless-stopped", ended("stopped"), False),
        ("unless-stopped", ended("exited", user_stopped=True), False),
        ("on-failure", ended("reboot"), False),
        ("no", ended("reboot"), False),
        ("always", RUNNING, False),
        ("always", None, False),
    ],
)
def test_who_comes_back_after_a_reboot(policy: str, run: RunState | None, expected: bool) -> None:
    status = run.status if run is not None else Status.CREATED
    assert comes_back(policy, Observed(A, status, run)) is expected


def test_what_the_database_does_not_know_is_shown_and_left_alone(world: World) -> None:
    world.container(A)
    world.engine.has(A, RUNNING)
    world.engine.has("c" * 64, RUNNING)
    world.reconciler.round()
    world.host.refresh_from_db()
    assert world.host.unmanaged == [{"id": "c" * 64, "name": "name-cc", "status": "running"}]
    assert world.engine.cleaned == []
    del world.engine.observed["c" * 64]
    world.reconciler.round()
    world.host.refresh_from_db()
    assert world.host.unmanaged == []
