"""/api/v1/containers/{key}/files, …/content, …/export: who may, what is refused, how what comes is called."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.web import Site
from webui.containers.models import Container
from webui.live import stream_client
from webui.operations.models import Event

PATHS = ("files?path=/", "files/content?path=/f", "archive?path=/f", "export", "changes")


@pytest.fixture
def web(site: Site) -> Container:
    return site.running("web")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the watcher was asked for; it has one file."""
    seen: list[Any] = []

    async def content(container_id: str, path: str, *rest: Any) -> AsyncIterator[Any]:
        seen.append((container_id, path, *rest))
        yield {"type": "stat", "data": {"name": path.rpartition("/")[2], "size": 2}}
        yield {"type": "output", "data": base64.b64encode(b"hi").decode()}

    async def listing(container_id: str, path: str, **options: Any) -> Any:
        seen.append((container_id, path, options))
        return {"path": path, "entries": []}

    monkeypatch.setattr(stream_client, "read_file", content)
    monkeypatch.setattr(stream_client, "list_files", listing)
    return seen


@pytest.mark.parametrize("path", PATHS)
def test_only_operators_may_look(site: Site, web: Container, asked: list[Any], path: str) -> None:
    for api, status in (
        (site.api("viewer"), 403),
        (site.api(read_only=True), 403),
        (site.stranger(), 401),
    ):
        api.get(f"containers/web/{path}", expect=status)
    site.api().get(f"containers/nobody/{path}", expect=404)
    assert asked == []
    assert not Event.objects.filter(type__startswith="container.files").exists()


def test_a_directory_is_asked_for_in_parts(site: Site, web: Container, asked: list[Any]) -> None:
    api = site.api()
    assert api.get("containers/web/files")["path"] == "/"
    api.get("containers/web/files?path=/a%20b&after=m&limit=5")
    assert asked == [
        (web.pk, "/", {"after": "", "limit": 1000}),
        (web.pk, "/a b", {"after": "m", "limit": 5}),
    ]
    for bad in ("limit=0", "limit=5001", "limit=x"):
        error = api.get(f"containers/web/files?{bad}", expect=422)
        assert error["extra"]["field"] == "limit"


def test_content_is_a_file_to_keep_and_never_a_page(
    site: Site, web: Container, asked: list[Any]
) -> None:
    url = "/api/v1/containers/web/files/content"
    client: Any = site.api().client
    answer = client.get(url, {"path": '/x/page".html', "limit": 10})
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["Content-Disposition"] == 'attachment; filename="page\\".html"'
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert asked == [(web.pk, '/x/page".html', 10)]
    odd = client.get(url, {"path": "/new\nline ä"})
    assert odd["Content-Disposition"] == "attachment; filename*=utf-8''new_line%20%C3%A4"
    noted = [(e.type, e.user, e.data["path"]) for e in Event.objects.filter(target_id=web.pk)]
    assert noted[:2] == [
        ("container.files_read", site.users["operator"], "/new\nline ä"),
        ("container.files_read", site.users["operator"], '/x/page".html'),
    ]
    for bad in ({}, {"path": "/f", "limit": 0}):
        assert client.get(url, bad).status_code == 422
