"""A host with an image and a network, people who may and may not, and what would go to its worker."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.db import connections
from django.test import Client

from tests.support.answers import Answers
from webui.accounts.models import User
from webui.accounts.services import token_create
from webui.containers.models import Container
from webui.containers.requests import ContainerRequest
from webui.containers.services import container_create
from webui.core import broker
from webui.hosts.models import Host
from webui.images.models import Image, Reference
from webui.networks.models import Network
from webui.operations.models import Operation
from webui.operations.services import operation_claim, operation_fail, operation_succeed

Work = Callable[[Operation], dict[str, Any]]

CONFIG = {
    "entrypoint": [],
    "cmd": ["sh"],
    "env": ["PATH=/bin"],
    "working_dir": "",
    "user": "",
    "volumes": [],
    "exposed_ports": [],
    "labels": {},
}
DIGEST = "sha256:" + "ab" * 32


class Site:
    """The control plane with a broker that only takes notes; `work` plays the worker, if set."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, str]] = []  # (task, operation id, queue)
        self.work: Work | None = None
        self.host = Host.objects.create(id=settings.ENVIRONMENT.host_id, name="here")
        self.network = Network.objects.create(
            host=self.host,
            name="default",
            subnet="172.30.0.0/22",
            gateway="172.30.0.1",
            is_default=True,
        )
        self.image = self.add_image("slipway/starter:latest", DIGEST)
        self.users = {role: self._user(role) for role in ("viewer", "operator", "admin")}

    @staticmethod
    def _user(role: str) -> User:
        return User.objects.create_user(role, password=role, role=role)

    def add_image(self, reference: str, digest: str, **config: Any) -> Image:
        image = Image.objects.create(
            host=self.host, digest=digest, config={**CONFIG, **config}, size=1000
        )
        Reference.objects.create(host=self.host, image=image, name=f"docker.io/{reference}")
        return image

    # -- the seam to the worker ---------------------------------------------------------------

    def put(self, host_id: str, kind: str, operation_id: str) -> None:
        self.sent.append((kind, operation_id, broker.queue_of(host_id)))
        if self.work is None:
            return
        operation = operation_claim(operation_id=operation_id, worker="test")
        assert operation is not None
        try:
            operation_succeed(operation=operation, result=self.work(operation))
        except WorkFailed as failure:
            operation_fail(operation=operation, error=failure.payload)

    # -- who asks -----------------------------------------------------------------------------

    def token(self, role: str, *, read_only: bool = False) -> str:
        return token_create(user=self.users[role], name="test", read_only=read_only)[1]

    def api(self, role: str = "operator", *, read_only: bool = False) -> Api:
        """REST as a program with a token of somebody with this role."""
        text = self.token(role, read_only=read_only)
        return Api(Client(headers={"Authorization": f"Bearer {text}"}))

    def stranger(self) -> Api:
        return Api(Client())

    def make(self, name: str = "", **fields: Any) -> Container:
        """A container by the service, as a form or REST makes one."""
        fields.setdefault("image", "slipway/starter")
        container, _ = container_create(
            host=self.host,
            request=ContainerRequest(name=name, **fields),
            user=self.users["operator"],
            via="ui",
            publish_address="0.0.0.0",
        )
        return container

    def running(self, name: str = "", **fields: Any) -> Container:
        container = self.make(name, **fields)
        Container.objects.filter(pk=container.pk).update(status="running", present=True)
        container.refresh_from_db()
        return container


class WorkFailed(Exception):
    """What the pretended worker ran into."""

    def __init__(self, payload: dict[str, Any]) -> None:
        super().__init__(payload["message"])
        self.payload = payload


class Api:
    """JSON in and out below /api/v1/."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def call(self, method: str, path: str, body: Any = None, *, expect: int) -> Any:
        answer = self.client.generic(
            method,
            f"/api/v1/{path}",
            "" if body is None else json.dumps(body),
            content_type="application/json",
        )
        assert answer.status_code == expect, (answer.status_code, answer.content[:1000])
        body = json.loads(answer.content) if answer.content else None
        _described().check(method, f"/api/v1/{path}", expect, body)
        return body

    def get(self, path: str, *, expect: int = 200) -> Any:
        return self.call("GET", path, expect=expect)

    def post(self, path: str, body: Any = None, *, expect: int = 202) -> Any:
        return self.call("POST", path, body, expect=expect)

    def patch(self, path: str, body: Any, *, expect: int = 202) -> Any:
        return self.call("PATCH", path, body, expect=expect)

    def delete(self, path: str, *, expect: int = 202) -> Any:
        return self.call("DELETE", path, expect=expect)


@functools.cache
def _described() -> Answers:
    """Every answer that a test gets must be what the document says."""
    return Answers(Client().get("/api/v1/openapi.json").json())


def close_connections() -> None:
    """Those of the calling thread; a thread that outlives its test would keep its database open."""
    connections.close_all()


@pytest.fixture
def site(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Transactions really commit here: what is sent to the worker is sent on commit."""
    made = Site()
    monkeypatch.setattr(broker, "put", made.put)
    return made
