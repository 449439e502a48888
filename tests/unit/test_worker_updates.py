"""An update that fails: the database says what the disk says."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from runtime.errors import StorageFull
from runtime.model.codec import from_json
from runtime.model.spec import ContainerSpec, Limits
from tests.support.web import Site
from webui.containers.models import Container
from webui.operations.models import Operation
from workers import base, instance
from workers.tasks import containers as tasks


class Engine:
    """Its disk has what a worker wrote that died then; the next attempt meets an error."""

    def __init__(self, spec: ContainerSpec) -> None:
        self.spec = spec

    def update(self, container_id: str, **changes: Any) -> ContainerSpec:
        raise StorageFull("No space left.")

    def enforce(self, container_id: str) -> None:
        pass

    def inspect(self, container_id: str) -> ContainerSpec:
        return self.spec


def test_what_a_worker_that_died_has_written_is_shown(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = site.running("web")
    memory = 64 << 20
    spec = from_json(ContainerSpec, row.spec)
    host = Engine(dataclasses.replace(spec, limits=Limits(memory=memory)))
    monkeypatch.setattr(instance, "engine", lambda: host)
    monkeypatch.setattr(tasks, "container_seen", lambda job: {})
    asked = site.api().patch("containers/web", {"limits": {"memory": memory}})
    base.execute(asked["id"], tasks.update, tasks._enforce, kind="container.update")
    assert Operation.objects.get(pk=asked["id"]).status == "failed"
    assert Container.objects.get(pk=row.pk).spec["limits"]["memory"] == memory
