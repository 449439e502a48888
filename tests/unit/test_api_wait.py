"""Waiting for a container's end through REST."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.test import AsyncClient
from django.utils import timezone

from tests.support.web import Site, close_connections
from webui.containers.models import Container
from webui.core.publish import publish_gone, publish_row
from webui.live.hub import Hub


@pytest.fixture
def web(site: Site) -> Container:
    return site.running("web")


@pytest.fixture
async def headers(site: Site) -> AsyncIterator[dict[str, str]]:
    yield {"Authorization": f"Bearer {await sync_to_async(site.token)('viewer')}"}
    await Hub.current().close()
    await sync_to_async(close_connections)()


async def wait(headers: dict[str, str], query: str = "") -> Any:
    return await AsyncClient().post(f"/api/v1/containers/web/wait{query}", headers=headers)


def end(container: Container, code: int) -> None:
    container.status, container.exit_code = "exited", code
    container.finished_at = timezone.now()
    container.save()
    publish_row("containers", {"id": container.pk})


async def elsewhere(work: Callable[..., object], *args: Any) -> None:
    """In a thread of its own, as the one of sync code is taken by the request that waits."""

    def run() -> None:
        try:
            work(*args)
        finally:
            connections.close_all()

    await asyncio.to_thread(run)


async def subscribed(container: Container) -> None:
    hub = Hub.current()
    async with asyncio.timeout(5):
        while f"container:{container.pk}" not in hub._listeners:
            await asyncio.sleep(0.005)


async def test_the_answer_comes_with_the_end(web: Container, headers: dict[str, str]) -> None:
    waiting = asyncio.create_task(wait(headers))
    await subscribed(web)
    assert not waiting.done()
    await elsewhere(end, web, 3)
    answer = await asyncio.wait_for(waiting, 1.5)
    assert answer.status_code == 200
    assert answer.json()["exit_code"] == 3


async def test_one_that_does_not_run_is_answered_at_once_but_not_for_its_next_exit(
    web: Container, headers: dict[str, str]
) -> None:
    await elsewhere(end, web, 7)
    assert (await wait(headers)).json()["exit_code"] == 7
    late = await wait(headers, "?condition=next-exit&timeout=0.05")
    assert (late.status_code, late.json()["code"]) == (408, "timeout")


async def test_a_removal_ends_every_wait(web: Container, headers: dict[str, str]) -> None:
    waiting = asyncio.create_task(wait(headers, "?condition=removed"))
    await subscribed(web)
    key = web.pk
    await elsewhere(web.delete)
    await elsewhere(publish_gone, "containers", key)
    assert (await asyncio.wait_for(waiting, 1.5)).status_code == 200


async def test_an_unknown_condition_is_named(web: Container, headers: dict[str, str]) -> None:
    answer = await wait(headers, "?condition=tired")
    assert (answer.status_code, answer.json()["extra"]["field"]) == (422, "condition")
