"""/api/v1/containers/{key}/logs and /stats: what the watcher serves, as text and JSON."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import AsyncIterator, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient

from runtime.errors import KernelFailure, NotFound
from runtime.model.stats import HostSample, StatsSample
from runtime.store.logs import STDERR, STDOUT, LogWriter
from runtime.store.paths import Config
from tests.support.streams import Nobody, NoFiles, NoImages, no_exec
from tests.support.web import Site, close_connections
from webui.api import execs
from webui.containers.models import Container
from workers.watcher.history import History
from workers.watcher.stats import Sampler
from workers.watcher.stream_server import StreamServer


class Source:
    """An engine in which one container runs and is busy."""

    def __init__(self, running: str) -> None:
        self._running = running
        self._reads = 0

    def stats_of(self, ids: Collection[str]) -> list[StatsSample]:
        if self._running not in ids:
            return []
        self._reads += 1
        used = self._reads * 5 * 10**8
        return [StatsSample(id=self._running, time=1000.0 + self._reads, cpu_usage=used)]

    def host_sample(self) -> HostSample:
        raise NotFound("not asked for")


ended: set[str] = set()  # containers that have


@pytest.fixture
def web(site: Site) -> Container:
    return site.running("web")


@pytest.fixture
async def watcher(
    config: Config, web: Container, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[LogWriter]:
    """The stream server, and the log it serves."""
    monkeypatch.setenv("SLIPWAY_ROOT", str(config.root))
    monkeypatch.setenv("SLIPWAY_RUN", str(config.run))
    directory = config.bundle(web.pk) / "logs"
    directory.mkdir(parents=True)
    writer = LogWriter(str(directory), 1 << 20, 3)
    with ThreadPoolExecutor(2) as executor:
        task = asyncio.create_task(
            StreamServer(
                path=config.stream_socket,
                history=History(),
                sampler=Sampler(Source(web.pk), clock=lambda: 1000.0),
                executor=executor,
                running=lambda: [web.pk],
                logs_dir=lambda i: config.bundle(i) / "logs",
                run_dir=config.container_run,
                ended=ended.__contains__,
                begin_exec=no_exec,
                attaching=Nobody(),
                top=lambda _: [],
                files=NoFiles(),
                images=NoImages(),
            ).serve()
        )
        while not config.stream_socket.exists():
            await asyncio.sleep(0.005)
        yield writer
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    writer.close()
    ended.clear()


class Reader:
    """A viewer's program."""

    def __init__(self, token: str) -> None:
        self._client = AsyncClient()
        self._headers = {"Authorization": f"Bearer {token}"}

    async def get(self, path: str) -> Any:
        return await self._client.get(path, headers=self._headers)


@pytest.fixture
async def client(site: Site) -> AsyncIterator[Reader]:
    yield Reader(await sync_to_async(site.token)("viewer"))
    await sync_to_async(close_connections)()


async def text(answer: Any) -> str:
    parts = [part async for part in answer.streaming_content]
    return b"".join(parts).decode()


async def test_logs_are_text_in_the_order_they_were_written(
    watcher: LogWriter, client: Reader
) -> None:
    for number in range(3):
        watcher.write(STDOUT, b"out %d\n" % number)
        watcher.write(STDERR, b"err %d\n" % number)
    answer = await client.get("/api/v1/containers/web/logs")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert await text(answer) == "out 0\nerr 0\nout 1\nerr 1\nout 2\nerr 2\n"


async def test_logs_can_be_narrowed(watcher: LogWriter, client: Reader) -> None:
    for number in range(5):
        watcher.write(STDOUT, b"out %d\n" % number)
    watcher.write(STDERR, b"err\n")
    path = "/api/v1/containers/web/logs"
    assert await text(await client.get(f"{path}?tail=2")) == "out 4\nerr\n"
    assert await text(await client.get(f"{path}?stdout=false")) == "err\n"
    assert await text(await client.get(f"{path}?until=1970-01-01T00:00:10Z")) == ""
    assert "out 0" in await text(await client.get(f"{path}?since=10m"))


async def test_logs_as_json_have_time_and_stream(watcher: LogWriter, client: Reader) -> None:
    watcher.write(STDERR, b"oops\n")
    lines = (await client.get("/api/v1/containers/web/logs?format=json")).json()
    assert [(line["stream"], line["text"]) for line in lines] == [("stderr", "oops")]
    assert lines[0]["time"]


async def test_following_ends_with_the_container(
    watcher: LogWriter, client: Reader, web: Container
) -> None:
    watcher.write(STDOUT, b"first\n")
    answer: Any = await client.get("/api/v1/containers/web/logs?follow=true")
    parts = aiter(answer.streaming_content)
    assert await anext(parts) == b""  # the answer has begun
    assert await anext(parts) == b"first\n"
    watcher.write(STDOUT, b"second\n")
    assert await anext(parts) == b"second\n"
    ended.add(web.pk)
    assert [part async for part in parts] == []


async def test_following_as_json_is_an_object_per_line(
    watcher: LogWriter, client: Reader, web: Container
) -> None:
    watcher.write(STDOUT, b"one\ntwo\n")
    answer = await client.get("/api/v1/containers/web/logs?follow=true&format=json")
    assert answer.headers["Content-Type"].startswith("application/x-ndjson")
    ended.add(web.pk)
    lines = [json.loads(line) for line in (await text(answer)).splitlines()]
    assert [line["text"] for line in lines] == ["one", "two"]


@pytest.mark.parametrize(
    ("query", "field"),
    [("since=yesterday", "since"), ("tail=-1", "tail"), ("format=xml", "format")],
)
async def test_bad_parameters_are_named(
    watcher: LogWriter, client: Reader, query: str, field: str
) -> None:
    answer = await client.get(f"/api/v1/containers/web/logs?{query}")
    assert answer.status_code == 422
    assert answer.json()["extra"]["field"] == field


async def test_stats_have_rates(watcher: LogWriter, client: Reader) -> None:
    first = (await client.get("/api/v1/containers/web/stats")).json()
    assert first["id"]
    assert "cpu_percent" in first


async def test_a_missing_watcher_is_said(
    site: Site, web: Container, client: Reader, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_RUN", str(config.run))
    for path in ("stats", "logs"):
        answer = await client.get(f"/api/v1/containers/web/{path}")
        assert answer.status_code == 503
        assert answer.json()["code"] == "stream_unavailable"


async def test_strangers_and_unknown_containers(site: Site, client: Reader) -> None:
    for path in ("stats", "logs"):
        assert (await AsyncClient().get(f"/api/v1/containers/web/{path}")).status_code == 401
        assert (await client.get(f"/api/v1/containers/web/{path}")).status_code == 404


async def test_a_command_that_could_not_be_begun_is_no_mistake_of_ours(
    web: Container, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has an exit code is the command's end, the rest an error."""

    def begin(*_: object, **__: object) -> None:
        raise KernelFailure("fork", errno.EAGAIN, stage="exec")

    monkeypatch.setattr(execs, "begin_exec", begin)
    token = await sync_to_async(site.token)("operator")
    answer = await AsyncClient().post(
        "/api/v1/containers/web/exec",
        {"command": "true"},
        content_type="application/json",
        headers={"Authorization": f"Bearer {token}"},
    )
    await sync_to_async(close_connections)()
    assert answer.json()["code"] == "kernel_failure"
