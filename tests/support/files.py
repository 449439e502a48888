"""Containers in each state that files are copied of, and tar streams for them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest

from runtime.model.spec import ContainerSpec, Security
from runtime.model.state import Status
from tests.support.engine import Instance

SCRIPT = "echo told > /root/file; echo ready; exec sleep 1000"
HOST = Security(userns="host")


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    with Instance() as made:
        yield made


@pytest.fixture(params=["running", "host ids", "stopped", "created"])
def spec(request: pytest.FixtureRequest, instance: Instance) -> Iterator[ContainerSpec]:
    """A container in each state that files are copied of."""
    made = make(instance, request.param)
    yield made
    instance.engine.remove(made.id, force=True)


@pytest.fixture
def running(instance: Instance) -> Iterator[ContainerSpec]:
    made = make(instance, "running")
    yield made
    instance.engine.remove(made.id, force=True)


def make(instance: Instance, state: str) -> ContainerSpec:
    security = HOST if state == "host ids" else Security()
    spec = instance.shell(SCRIPT, security=security)
    if state == "created":
        return instance.create(spec)
    instance.run(spec)
    instance.wait_for_output(spec, "ready")
    if state == "stopped":
        instance.engine.kill(spec.id)
        instance.wait_for(spec, Status.EXITED)
    return spec


def archive(*members: tarfile.TarInfo, data: bytes = b"data\n") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for member in members:
            if member.isreg():
                member.size = len(data)
            tar.addfile(member, io.BytesIO(data) if member.isreg() else None)
    return out.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, **values: Any) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = kind
    made.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in values.items():
        setattr(made, key, value)
    return made


def put(instance: Instance, spec: ContainerSpec, path: str, data: bytes, **options: bool) -> None:
    with instance.engine.files.write(spec.id, path, **options) as transfer:
        try:
            transfer.stream.write(data)
        except BrokenPipeError:
            pass
        transfer.finish()
