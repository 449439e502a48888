"""Who may attach, and what is asked of the watcher for it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.contrib.auth.models import AnonymousUser

from tests.support.web import Site
from webui.live import attaching
from webui.live.attaching import AttachConsumer
from webui.live.terminal import TerminalConsumer
from webui.operations.models import Event

pytestmark = pytest.mark.django_db(transaction=True)

TIMEOUT = 5.0  # seconds


class Process:
    """What the watcher would serve: one that says a word and ends."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self.begun = {"tty": True, "stdin": asked["stdin"]}
        self._messages: list[dict[str, Any]] = [
            {"type": "output", "stream": "stdout", "data": "aGVsbG8="},
            {"type": "skipped", "bytes": 9},
            {"type": "exit", "exit_code": 3, "restarting": True},
        ]

    async def message(self) -> dict[str, Any]:
        return self._messages.pop(0)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the watcher has been asked for."""
    found: list[dict[str, Any]] = []

    @asynccontextmanager
    async def attach(container_id: str, **request: Any) -> AsyncIterator[Process]:
        found.append(request)
        yield Process(request)

    monkeypatch.setattr(attaching, "attach", attach)
    return found


async def site_container(site: Site, *, running: bool = True) -> str:
    make = site.running if running else site.make
    return str((await sync_to_async(make)("web" if running else "idle")).pk)


async def messages(consumer: Any, user: Any, key: str, **query: Any) -> list[Any]:
    """All that is sent up to the close, its code last: bytes, or JSON."""
    scope = {
        "type": "websocket",
        "user": user,
        "query_string": urlencode(query).encode(),
        "url_route": {"kwargs": {"key": key}},
    }
    wire = ApplicationCommunicator(consumer.as_asgi(), scope)
    await wire.send_input({"type": "websocket.connect"})
    assert (await wire.receive_output(TIMEOUT))["type"] == "websocket.accept"
    found: list[Any] = []
    while (event := await wire.receive_output(TIMEOUT))["type"] != "websocket.close":
        found.append(event["bytes"] if "bytes" in event else json.loads(event["text"]))
    await wire.wait(TIMEOUT)
    return [*found, event["code"]]


async def test_an_operator_writes_and_a_viewer_looks(
    site: Site, asked: list[dict[str, Any]]
) -> None:
    web = await site_container(site)
    for role, stdin in (("operator", True), ("viewer", False)):
        got = await messages(AttachConsumer, site.users[role], web, logs=7, rows=10, columns=20)
        assert got == [
            {"tty": True, "stdin": stdin}, b"hello", {"skipped": 9},
            {"exit_code": 3, "restarting": True}, 1000,
        ]  # fmt: skip
        assert asked.pop() == {"stdin": stdin, "tail": 7, "size": [10, 20]}
        event = await Event.objects.filter(type="container.attach").select_related("user").afirst()
        assert event is not None
        assert event.user is not None
        assert (event.user.username, event.data["stdin"]) == (role, stdin)


async def test_streams_can_be_left_out(site: Site, asked: list[dict[str, Any]]) -> None:
    web = await site_container(site)
    got = await messages(AttachConsumer, site.users["operator"], web, stdout=0, stdin="false")
    assert b"hello" not in got
    assert asked == [{"stdin": False, "tail": 0}]


async def test_a_stranger_does_neither_and_a_viewer_runs_no_shell(
    site: Site, asked: list[dict[str, Any]]
) -> None:
    web = await site_container(site)
    assert await messages(AttachConsumer, AnonymousUser(), web) == [4401]
    error, code = await messages(TerminalConsumer, site.users["viewer"], web)
    assert (error["code"], code) == ("forbidden", 4403)
    assert asked == []


async def test_what_does_not_run_is_not_attached_to(
    site: Site, asked: list[dict[str, Any]]
) -> None:
    for key, code in (
        (await site_container(site, running=False), "bad_state"),
        ("no", "not_found"),
    ):
        error, _ = await messages(AttachConsumer, site.users["operator"], key)
        assert error["code"] == code
    assert asked == []
