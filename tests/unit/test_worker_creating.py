"""A creation that is cancelled or fails: what is left of it in the database."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

import pytest

from runtime.errors import KernelFailure, NotFound, StorageFull
from runtime.model.state import Observed, Status
from tests.support.web import Site
from webui.containers.models import Container
from webui.operations.models import Operation
from webui.operations.services import operation_cancel
from webui.volumes.models import Volume
from workers import base, instance
from workers.pulse import pulse
from workers.tasks import containers as tasks


class Engine:
    """Makes a container that can be taken back; `during` happens meanwhile."""

    def __init__(self, job: Any = None) -> None:
        self.made: set[str] = set()
        self.volumes = SimpleNamespace(exists=lambda name: bool(self.made))
        self.during: Any = lambda: None

    def create(self, spec: Any, *, durable: bool = True) -> None:
        self.during()
        self.made.add(spec.id)

    def take_back(self, spec: Any) -> None:
        self.made.discard(spec.id)

    def observe(self, container_id: str) -> Any:
        raise NotFound("There is no such container.")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    made = Engine()
    monkeypatch.setattr(instance, "engine", lambda: made)
    monkeypatch.setattr(tasks, "networks_known", lambda engine, spec: None)
    return made


def _run(site: Site) -> Operation:
    operation = Operation.objects.get(kind="container.create")
    base.execute(str(operation.pk), tasks.create, tasks._take_back)
    operation.refresh_from_db()
    return operation


def test_a_creation_cancelled_before_it_began_leaves_no_volume(site: Site) -> None:
    site.make("web", volumes=["data:/data"])
    operation_cancel(operation=Operation.objects.get(), user=None)
    assert not Container.objects.exists()
    assert not Volume.objects.exists()


def test_a_creation_cancelled_at_work_is_taken_back(
    site: Site, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.make("web", volumes=["data:/data"])

    def cancel() -> None:
        operation_cancel(operation=Operation.objects.get(), user=None)
        for live in list(pulse._live.values()):
            live.cancelled.set()

    engine.during = cancel
    assert _run(site).status == Operation.Status.CANCELLED
    assert not engine.made
    assert not Container.objects.exists()
    assert not Volume.objects.exists()


def test_a_creation_that_fails_leaves_a_volume_that_others_made(site: Site, engine: Engine) -> None:
    site.make("web", volumes=["data:/data", "old:/old"])
    Volume.objects.filter(name="old").update(made=True)

    def fail() -> None:
        raise StorageFull("The disk is full.")

    engine.during = fail
    engine.volumes = SimpleNamespace(exists=lambda name: name == "old")
    assert _run(site).status == Operation.Status.FAILED
    assert not Container.objects.exists()
    assert [volume.name for volume in Volume.objects.all()] == ["old"]


def test_a_creation_is_not_failed_by_a_look_at_it_that_fails(site: Site, engine: Engine) -> None:
    site.make("web", start=False)
    answers = iter([KernelFailure("observe", errno.EMFILE, "/proc/1/stat")])

    def observe(container_id: str) -> Observed:
        for error in answers:
            raise error
        return Observed(container_id, Status.CREATED, None)

    engine.observe = observe  # type: ignore[method-assign]
    assert _run(site).status == Operation.Status.SUCCEEDED
    assert engine.made


def test_one_that_a_worker_had_started_before_it_died_is_not_done_again(
    site: Site, engine: Engine
) -> None:
    site.make("web", start=True)
    Operation.objects.update(attempts=1)

    def refuse() -> None:
        raise KernelFailure("create", errno.EIO, "/run/lock")

    engine.during = refuse
    engine.observe = lambda container_id: Observed(container_id, Status.RUNNING, None)  # type: ignore[method-assign]
    assert _run(site).status == Operation.Status.SUCCEEDED
    assert Container.objects.get().status == Status.RUNNING
