"""One hub for all browsers, through the death of Redis and of the watcher."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Hashable
from typing import Any

import pytest
from channels_redis.pubsub import RedisPubSubChannelLayer

from tests.support.redis import PrivateRedis, private_redis
from webui.live import topics
from webui.live.hub import Hub

__all__ = ["private_redis"]


class Browser:
    """Collects what a connection would send."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.resyncs = 0

    def deliver(self, topic: str, key: Hashable, text: str) -> None:
        self.got.append(json.loads(text))

    def resync(self) -> None:
        self.resyncs += 1


async def eventually(check: Callable[[], object], timeout: float = 5.0) -> None:
    async with asyncio.timeout(timeout):
        while not check():
            await asyncio.sleep(0.01)


@pytest.fixture
def layer(private_redis: PrivateRedis, settings: Any) -> Any:
    """What another process publishes with."""
    config = {"hosts": [private_redis.url]}
    settings.CHANNEL_LAYERS = {
        "default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": config}
    }
    return RedisPubSubChannelLayer(**config)


@pytest.fixture
async def hub(layer: RedisPubSubChannelLayer) -> AsyncIterator[Hub]:
    hub = Hub.current()
    yield hub
    await hub.close()
    await layer.flush()


async def publish(layer: RedisPubSubChannelLayer, topic: str, number: int) -> None:
    message = {"topic": topic, "type": "row", "rev": number, "data": {"id": "a", "n": number}}
    await layer.group_send(topics.group(topic), {"type": "live.message", "message": message})


async def test_a_row_reaches_every_browser_that_subscribed(hub: Hub, layer: Any) -> None:
    one, two, other = Browser(), Browser(), Browser()
    await hub.subscribe("containers", one)
    await hub.subscribe("containers", two)
    await hub.subscribe("images", other)
    await publish(layer, "containers", 1)
    await eventually(lambda: one.got and two.got)
    assert one.got == two.got
    assert one.got[0]["data"]["n"] == 1
    assert not other.got


async def test_a_browser_that_left_gets_nothing(hub: Hub, layer: Any) -> None:
    stays, leaves = Browser(), Browser()
    await hub.subscribe("containers", stays)
    await hub.subscribe("containers", leaves)
    await hub.unsubscribe("containers", leaves)
    await publish(layer, "containers", 1)
    await eventually(lambda: stays.got)
    assert not leaves.got


async def test_a_message_that_makes_no_sense_stops_nothing(hub: Hub, layer: Any) -> None:
    browser = Browser()
    await hub.subscribe("containers", browser)
    await layer.group_send(topics.group("containers"), {"type": "live.message", "message": 7})
    await publish(layer, "containers", 2)
    await eventually(lambda: browser.got)
    assert browser.got[0]["data"]["n"] == 2


async def test_after_redis_was_killed_browsers_resync_and_rows_flow_again(
    hub: Hub, layer: Any, private_redis: PrivateRedis
) -> None:
    browser = Browser()
    await hub.subscribe("containers", browser)
    await hub.subscribe("images", browser)
    await publish(layer, "containers", 1)
    await eventually(lambda: browser.got)
    await asyncio.to_thread(private_redis.kill)
    await layer.flush()
    await asyncio.to_thread(private_redis.start)
    await eventually(lambda: browser.resyncs >= 1)
    await publish(layer, "containers", 2)
    await eventually(lambda: browser.got[-1]["data"]["n"] == 2)


async def test_a_browser_that_comes_while_redis_is_away_is_subscribed_later(
    hub: Hub, layer: Any, private_redis: PrivateRedis
) -> None:
    first, second = Browser(), Browser()
    await hub.subscribe("containers", first)
    await asyncio.to_thread(private_redis.kill)
    await layer.flush()
    async with asyncio.timeout(3):
        await hub.subscribe("containers", second)
        await hub.subscribe("volumes", second)
    await asyncio.to_thread(private_redis.start)
    await eventually(lambda: second.resyncs)
    await publish(layer, "volumes", 3)
    await eventually(lambda: second.got)
