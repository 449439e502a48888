"""One browser's websocket: who may open it, what it gets, and in which order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from channels.layers import get_channel_layer
from channels.routing import URLRouter

from runtime.errors import NotFound
from tests.support.websocket import Socket
from webui.live import consumer, stream_client, topics
from webui.live.consumer import LiveConsumer
from webui.live.hub import Hub
from webui.live.logs import Place
from webui.live.routing import websocket_urlpatterns
from webui.live.stream_client import StreamUnavailable

ID = "a" * 64
USER = SimpleNamespace(is_authenticated=True, pk=1)
STRANGER = SimpleNamespace(is_authenticated=False, pk=None)

Connect = Callable[..., Awaitable[Socket]]


@pytest.fixture
async def connect(settings: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Connect]:
    """Open a socket, by default as somebody who signed in."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

    async def snapshot(topic: str) -> Any:
        if topic == f"container:{ID}":
            raise NotFound("There is no such container.")
        return [{"id": "1", "revision": 1}]

    monkeypatch.setattr(consumer, "snapshot", snapshot)
    opened: list[Socket] = []

    async def open_one(user: Any = USER) -> Socket:
        socket = Socket(LiveConsumer.as_asgi(), user)
        await socket.open()
        opened.append(socket)
        return socket

    yield open_one
    for socket in opened:
        await socket.close()
    await Hub.current().close()


async def publish(topic: str, kind: str, data: dict[str, Any], rev: int = 2) -> None:
    message = {"topic": topic, "type": kind, "rev": rev, "data": data}
    await get_channel_layer().group_send(
        topics.group(topic), {"type": "live.message", "message": message}
    )


async def test_a_stranger_is_told_to_sign_in(connect: Connect) -> None:
    socket = await connect(STRANGER)
    assert await socket.close_code() == 4401


async def test_a_path_that_is_none_is_refused() -> None:
    scope = {"type": "websocket", "path": "/ws/nothing/", "headers": []}
    socket = ApplicationCommunicator(URLRouter(websocket_urlpatterns), scope)
    await socket.send_input({"type": "websocket.connect"})
    assert await socket.receive_output() == {"type": "websocket.close"}


async def test_a_snapshot_comes_first_and_then_rows(connect: Connect) -> None:
    socket = await connect()
    await socket.ask("subscribe", "containers")
    first = await socket.message()
    assert first == {
        "topic": "containers",
        "type": "snapshot",
        "data": [{"id": "1", "revision": 1}],
    }
    await publish("containers", "row", {"id": "1", "revision": 2})
    second = await socket.message()
    assert (second["type"], second["rev"], second["data"]["revision"]) == ("row", 2, 2)
    await publish("containers", "gone", {"id": "1"})
    assert (await socket.message())["type"] == "gone"


async def test_rows_that_come_during_the_snapshot_come_after_it(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = asyncio.Event()
    go_on = asyncio.Event()

    async def slow(topic: str) -> Any:
        taken.set()
        await go_on.wait()
        return []

    monkeypatch.setattr(consumer, "snapshot", slow)
    socket = await connect()
    await socket.ask("subscribe", "containers")
    await taken.wait()
    await publish("containers", "row", {"id": "1"})
    assert await socket.is_silent()
    go_on.set()
    kinds = [message["type"] for message in await socket.messages(2)]
    assert kinds == ["snapshot", "row"]


async def test_an_unsubscribed_topic_is_silent(connect: Connect) -> None:
    socket = await connect()
    await socket.ask("subscribe", "containers", "images")
    await socket.messages(2)
    await socket.ask("unsubscribe", "containers")
    await publish("images", "row", {"id": "x"})
    assert (await socket.message())["topic"] == "images"
    await publish("containers", "row", {"id": "1"})
    assert await socket.is_silent()


async def test_subscribing_again_brings_a_new_snapshot(connect: Connect) -> None:
    socket = await connect()
    for _ in range(2):
        await socket.ask("subscribe", "containers")
        assert (await socket.message())["type"] == "snapshot"


async def test_after_a_loss_every_snapshot_comes_again(connect: Connect) -> None:
    socket = await connect()
    await socket.ask("subscribe", "containers", "images")
    await socket.messages(2)
    Hub.current()._resync()
    again = await socket.messages(2)
    assert {message["topic"] for message in again} == {"containers", "images"}
    assert {message["type"] for message in again} == {"snapshot"}


async def test_a_container_that_does_not_exist_is_an_error_of_its_topic(connect: Connect) -> None:
    socket = await connect()
    await socket.ask("subscribe", f"container:{ID}")
    message = await socket.message()
    assert (message["topic"], message["type"]) == (f"container:{ID}", "error")
    assert message["data"]["code"] == "not_found"


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "[]",
        '{"action": "subscribe"}',
        '{"action": "delete", "topics": ["containers"]}',
        '{"action": "subscribe", "topics": ["containers:../../x"]}',
        '{"action": "subscribe", "topics": ["logs:short"]}',
    ],
)
async def test_a_message_that_makes_no_sense_is_answered_and_nothing_breaks(
    connect: Connect, text: str
) -> None:
    socket = await connect()
    await socket.send_text(text)
    assert (await socket.message())["type"] == "error"
    await socket.ask("subscribe", "containers")
    assert (await socket.message())["type"] == "snapshot"


async def test_samples_begin_with_the_past(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def history(of: str) -> str:
        return json.dumps({"of": of})

    monkeypatch.setattr(stream_client, "history", history)
    socket = await connect()
    await socket.ask("subscribe", "host", "stats", f"stats:{ID}")
    got = [await socket.message() for _ in range(3)]
    assert {message["topic"]: message["data"]["of"] for message in got} == {
        "host": "host",
        "stats": "all",
        f"stats:{ID}": ID,
    }
    assert {message["type"] for message in got} == {"snapshot"}


async def test_samples_are_passed_on(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    async def raw_samples(request: dict[str, Any]) -> AsyncIterator[str]:
        wanted = request.get("ids", "host")
        if wanted == "host":
            yield '{"load1":0.5}'
        else:
            yield json.dumps({ID: {"memory": 7}}, separators=(",", ":"))
        await asyncio.Event().wait()

    monkeypatch.setattr(stream_client, "raw_samples", raw_samples)
    socket = await connect()
    await socket.ask("subscribe", "host", "stats", f"stats:{ID}")
    messages = await socket.messages(3)
    assert {message["topic"]: message["data"] for message in messages} == {
        "host": {"load1": 0.5},
        "stats": {ID: {"memory": 7}},
        f"stats:{ID}": {"memory": 7},
    }


async def test_a_log_goes_on_after_the_watcher_restarted(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    async def logs(container_id: str, **options: Any) -> AsyncIterator[list[dict[str, Any]]]:
        asked.append(options)
        time = f"2030-01-01T00:00:0{len(asked)}.000000Z"
        yield [{"time": time, "stream": "stdout", "text": str(len(asked))}]
        if len(asked) < 2:
            raise StreamUnavailable("gone")

    monkeypatch.setattr(stream_client, "logs", logs)
    monkeypatch.setattr("webui.live.logs.RECONNECT", 0.01)
    socket = await connect()
    await socket.ask("subscribe", f"logs:{ID}", **{f"logs:{ID}": {"tail": 5}})
    messages = await socket.messages(3)
    assert [message["type"] for message in messages] == ["snapshot", "lines", "end"]
    assert [asked[0]["tail"], asked[0]["since"]] == [5, None]
    assert asked[1]["tail"] is None
    assert asked[1]["since"] == pytest.approx(1893456001.0, abs=1e-3)


async def test_a_part_of_a_log_is_read_once_and_ends(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    async def logs(container_id: str, **options: Any) -> AsyncIterator[list[dict[str, Any]]]:
        asked.append(options)
        if not options["follow"]:
            return
        yield []

    monkeypatch.setattr(stream_client, "logs", logs)
    socket = await connect()
    topic = f"logs:{ID}"
    await socket.ask("subscribe", topic, **{topic: {"tail": 5, "since": 100, "until": 200.5}})
    messages = await socket.messages(2)
    # A page that had shown another part knows that there is nothing in this one.
    assert [(m["type"], m["data"]) for m in messages] == [("snapshot", []), ("end", {})]
    assert (asked[0]["since"], asked[0]["until"], asked[0]["follow"]) == (100.0, 200.5, False)


async def test_a_session_that_ended_closes_the_socket(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def over(scope: Any) -> bool:
        return False

    monkeypatch.setattr(consumer, "RECHECK", 0.01)
    monkeypatch.setattr(consumer, "session_holds", over)
    socket = await connect()
    assert await socket.close_code() == 4401


async def test_too_many_topics_are_refused(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "MAX_TOPICS", 1)
    socket = await connect()
    await socket.ask("subscribe", "containers", "images")
    messages = await socket.messages(2)
    assert {message["type"] for message in messages} == {"snapshot", "error"}


def lines(*pairs: tuple[int, str]) -> list[dict[str, Any]]:
    return [{"time": f"2030-01-01T00:00:0{second}.000000Z", "text": text} for second, text in pairs]


def test_a_log_is_picked_up_where_it_was_left_even_within_one_write() -> None:
    place = Place()
    assert place.since is None
    seen = place.after(lines((1, "a"), (2, "b"), (2, "c")))
    place.reconnect()
    # The same write had two more lines, which were still on their way.
    seen += place.after(lines((1, "a"), (2, "b"), (2, "c"), (2, "d")))
    seen += place.after(lines((2, "e"), (3, "f")))
    assert [line["text"] for line in seen] == ["a", "b", "c", "d", "e", "f"]


def test_a_clock_that_was_set_back_hides_no_lines() -> None:
    place = Place()
    assert len(place.after(lines((2, "a"), (1, "b"), (1, "c")))) == 3
