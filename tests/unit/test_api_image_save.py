"""/api/v1/images/{key}/save: who may, by which names, and a stream that is whole or breaks off."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from runtime.errors import EngineError, NotFound
from tests.support.web import DIGEST, Site
from webui.images.models import Reference
from webui.live import stream_client
from webui.operations.models import Event
from workers.watcher.image_stream import serve_save


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the watcher was asked for; the archive is two blocks."""
    seen: list[Any] = []

    async def save(image: str, names: list[str]) -> AsyncIterator[Any]:
        seen.append((image, names))
        yield {"type": "begun"}
        for part in (b"one", b"two"):
            yield {"type": "output", "data": base64.b64encode(part).decode()}

    monkeypatch.setattr(stream_client, "save_image", save)
    return seen


def test_only_operators_may_take_an_image_out(site: Site, asked: list[Any]) -> None:
    for api, status in (
        (site.api("viewer"), 403),
        (site.api(read_only=True), 403),
        (site.stranger(), 401),
    ):
        api.get("images/slipway/starter/save", expect=status)
    site.api().get("images/nobody/save", expect=404)
    assert asked == []
    assert not Event.objects.filter(type="image.saved").exists()


def test_it_is_a_file_to_keep_with_all_names_or_with_one(site: Site, asked: list[Any]) -> None:
    other = "docker.io/slipway/starter:other"
    Reference.objects.create(host=site.host, image=site.image, name=other)
    client: Any = site.api().client
    answer = client.get(f"/api/v1/images/{DIGEST}/save")
    assert answer["Content-Type"] == "application/x-tar"
    assert answer["Content-Disposition"] == 'attachment; filename="slipway_starter_latest.tar"'
    named = client.get("/api/v1/images/slipway/starter:other/save")
    assert named["Content-Disposition"] == 'attachment; filename="slipway_starter_other.tar"'
    whole, one = asked
    assert whole == (DIGEST, ["docker.io/slipway/starter:latest", other])
    assert one == (DIGEST, [other])
    events = Event.objects.filter(type="image.saved", target_id=DIGEST)
    assert {event.user for event in events} == {site.users["operator"]}
    assert events.count() == 2


class Images:
    """A store whose image is these blocks; an error among them is raised in its place."""

    def __init__(self, *blocks: bytes | EngineError) -> None:
        self._blocks = blocks
        self.closed = False

    def save(self, image_id: str, names: Any) -> Iterator[bytes]:
        try:
            for block in self._blocks:
                if isinstance(block, EngineError):
                    raise block
                yield block
        finally:
            self.closed = True


class Sent(list[Any]):
    """Messages; a reader that goes away after `most` of them."""

    most = 1000

    async def send(self, line: str) -> None:
        if len(self) >= self.most:
            raise TimeoutError
        self.append(json.loads(line))


def serve(images: Images, sent: Sent) -> None:
    asyncio.run(serve_save(sent, {"op": "save_image", "id": DIGEST, "names": []}, images))


def test_blocks_are_passed_on_in_pieces_and_their_end_is_told() -> None:
    sent, data = Sent(), bytes(range(256)) * 1000
    serve(Images(data, b"", b"end"), sent)
    assert [m["type"] for m in sent] == ["begun", *["output"] * 5, "end"]
    assert b"".join(base64.b64decode(m["data"]) for m in sent[1:-1]) == data + b"end"


def test_an_archive_that_cannot_be_made_whole_has_no_end() -> None:
    sent = Sent()
    with pytest.raises(NotFound):
        serve(Images(NotFound("It is not here.")), sent)
    assert sent == []
    with pytest.raises(EngineError):
        serve(Images(b"one", EngineError("It has changed.")), sent)
    assert [m["type"] for m in sent] == ["begun", "output"]


def test_a_reader_that_goes_away_lets_go_of_the_image() -> None:
    images, sent = Images(b"one", b"two", b"three"), Sent()
    sent.most = 2
    with pytest.raises(TimeoutError):
        serve(images, sent)
    assert images.closed
