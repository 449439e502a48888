"""The way of a request into Django: limits, uploads as they come, threads that are kept."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.conf import settings
from django.test import RequestFactory
from whitenoise.responders import StaticFile

from tests.support.web import Site, close_connections
from webui.core import threads
from webui.core.bodies import BodyHandler
from webui.core.static_files import StaticFiles
from webui.core.threads import request_thread

CUT = b"cut"
HEAD = b'--cut\r\nContent-Disposition: form-data; name="archive"; filename="a.tar"\r\n\r\n'
TAIL = b"\r\n--cut--\r\n"


@pytest.fixture
def spool() -> Path:
    path: Path = settings.SLIPWAY.spool
    for left in path.iterdir():
        left.unlink()
    return path


@pytest.fixture(autouse=True)
async def no_threads_left() -> AsyncIterator[None]:
    yield
    await sync_to_async(close_connections)()
    while threads._idle:
        executor = threads._idle.pop()
        executor.submit(close_connections).result()
        executor.shutdown()


def request(path: str, *headers: tuple[str, str], method: str = "POST") -> ApplicationCommunicator:
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [
            (name.encode(), value.encode()) for name, value in (("host", "testserver"), *headers)
        ],
        "scheme": "http",
        "server": ("testserver", 80),
        "client": ("127.0.0.1", 1234),
    }
    return ApplicationCommunicator(BodyHandler(), scope)


def upload(token: str, length: int) -> ApplicationCommunicator:
    return request(
        "/api/v1/images/import",
        ("authorization", f"Bearer {token}"),
        ("content-type", "multipart/form-data; boundary=cut"),
        ("content-length", str(length)),
    )


async def send(exchange: ApplicationCommunicator, body: bytes, *, more: bool = False) -> None:
    await exchange.send_input({"type": "http.request", "body": body, "more_body": more})


async def answer(exchange: ApplicationCommunicator) -> tuple[int, Any]:
    start = await exchange.receive_output(timeout=10)
    body = b""
    while True:
        part = await exchange.receive_output(timeout=10)
        body += part.get("body", b"")
        if not part.get("more_body"):
            break
    return start["status"], json.loads(body) if body else None


def files(directory: Path) -> list[Path]:
    return list(directory.iterdir())


async def until(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_an_upload_reaches_the_spool_while_it_comes_in(site: Site, spool: Path) -> None:
    token = await sync_to_async(site.token)("operator")
    content = b"a" * 3_000_000
    exchange = upload(token, len(HEAD) + len(content) + len(TAIL))
    await send(exchange, HEAD + content[:2_000_000], more=True)

    await until(lambda: any(p.stat().st_size > 500_000 for p in files(spool)))
    assert [path.suffix for path in files(spool)] == [".part"]
    await send(exchange, content[2_000_000:], more=True)
    await send(exchange, TAIL)
    status, operation = await answer(exchange)
    assert status == 202
    (kept,) = files(spool)
    assert (kept.name, kept.stat().st_size) == (operation["id"], len(content))
    await exchange.wait()


async def test_an_upload_that_breaks_off_leaves_nothing(site: Site, spool: Path) -> None:
    token = await sync_to_async(site.token)("operator")
    exchange = upload(token, 10_000_000)
    await send(exchange, HEAD + b"a" * 2_000_000, more=True)
    await until(lambda: files(spool))
    await exchange.send_input({"type": "http.disconnect"})
    await until(lambda: not files(spool))
    await exchange.wait()
    assert site.sent == []


@pytest.mark.parametrize("role", ["viewer", ""])
async def test_an_upload_by_somebody_who_may_not_is_refused_before_it_is_read(
    site: Site, spool: Path, role: str
) -> None:
    token = await sync_to_async(site.token)(role) if role else "slw_wrong"
    exchange = upload(token, 10**9)
    await send(exchange, HEAD + b"a", more=True)
    status, error = await answer(exchange)
    assert (status, error["code"]) == ((403, "forbidden") if role else (401, "unauthorized"))
    assert files(spool) == []
    await exchange.wait()


async def test_any_other_body_is_limited(site: Site) -> None:
    exchange = request("/api/v1/containers", ("content-type", "application/json"))
    for _ in range(5):
        await send(exchange, b" " * 1_000_000, more=True)
    status, error = await answer(exchange)
    assert (status, error["code"]) == (413, "too_large")


async def test_an_upload_is_only_an_upload_as_a_form(site: Site) -> None:
    exchange = request("/api/v1/images/import", ("content-type", "application/json"))
    for _ in range(5):
        await send(exchange, b" " * 1_000_000, more=True)
    assert (await answer(exchange))[0] == 413


async def test_requests_share_threads_but_not_with_one_that_still_works() -> None:
    async def ident() -> int:
        async with request_thread():
            return await sync_to_async(threading.get_ident)()

    first = await ident()
    assert await ident() == first
    release = threading.Event()

    async def abandoned() -> None:
        async with request_thread():
            await sync_to_async(release.wait)(10)

    task = asyncio.create_task(abandoned())
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    try:
        assert await asyncio.wait_for(ident(), 5) != first
    finally:
        release.set()


async def test_requests_at_once_have_threads_of_their_own() -> None:
    together = threading.Barrier(6)

    async def wait() -> None:
        async with request_thread():
            await sync_to_async(together.wait)(5)

    await asyncio.gather(*[wait() for _ in range(6)])
    assert len(threads._idle) == threads.KEPT


@pytest.mark.parametrize(
    ("headers", "status", "part"),
    [
        ([], 200, slice(None)),
        ([("range", "bytes=3-9")], 206, slice(3, 10)),
        ([("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT")], 304, slice(0)),
    ],
)
async def test_a_static_file_is_read_by_no_event_loop(
    headers: list[tuple[str, str]], status: int, part: slice
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asked = request("/static/js/app.js", *headers, method="GET")
        await asked.send_input({"type": "http.request"})
        start = await asked.receive_output(5)
        body = await asked.receive_output(5)
    assert start["status"] == status
    whole = (settings.BASE_DIR / "webui/static/js/app.js").read_bytes()
    assert body["body"] == whole[part]
    if status != 304:
        kinds = dict(start["headers"])[b"Content-Type"]
        assert kinds.startswith(b"text/javascript")


def test_a_static_file_that_has_grown_since_the_start_is_told_with_its_length(
    tmp_path: Path, rf: RequestFactory
) -> None:
    path = tmp_path / "app.js"
    path.write_text("1;")
    known = StaticFile(str(path), [])
    path.write_text("1; // and more")
    answer = StaticFiles.serve(known, rf.get("/static/app.js"))
    assert answer.content == b"1; // and more"
    assert answer["Content-Length"] == str(len(answer.content))
