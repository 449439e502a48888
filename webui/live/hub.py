"""One per process: the channel layer's rows and the watcher's samples, shared by every browser.

Each topic is subscribed once and each message encoded once, however many browsers watch. The hub notices
when Redis goes and comes back: rows published in between are lost, so it tells every browser's connection
to take new snapshots.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Hashable
from contextlib import suppress
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from channels.layers import get_channel_layer
from redis import asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from runtime.errors import EngineError
from webui.live import stream_client, topics
from webui.live.sender import redis_url

logger = logging.getLogger(__name__)

RECONNECT = 0.2  # seconds between attempts to reach Redis or the watcher
PING = 15.0  # seconds between looks at a quiet connection
# Workers notice a restarted Redis at their next publication, which may be the one that is lost. A second
# snapshot shortly after the first shows what such a one would have said.
SETTLE = 2.5  # seconds


class Listener(Protocol):
    """A browser's connection, as the hub sees it."""

    def deliver(self, topic: str, key: Hashable, text: str) -> None:
        """Queue a message of a topic; one under the same key replaces it."""

    def resync(self) -> None:
        """Take new snapshots: messages may have been lost."""


class Hub:
    """Use `Hub.current()`: one for the running event loop."""

    _hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()

    @classmethod
    def current(cls) -> Hub:
        loop = asyncio.get_running_loop()
        hub = cls._hubs.get(loop)
        if hub is None:
            hub = cls._hubs[loop] = cls()
        return hub

    def __init__(self) -> None:
        self._layer: Any = get_channel_layer()
        self._listeners: dict[str, set[Listener]] = {}
        self._channel: str | None = None  # None while Redis is away
        self._lock = asyncio.Lock()  # one change of subscriptions at a time
        self._receiver: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._bridges: dict[str, asyncio.Task[None]] = {}
        self._settling: asyncio.TimerHandle | None = None
        self._ready = asyncio.Event()

    # -- subscriptions ------------------------------------------------------------------------

    async def subscribe(self, topic: str, listener: Listener) -> None:
        """From when this returns, `listener` gets every message of `topic` that Redis delivers."""
        await self._start()
        async with self._lock:
            listeners = self._listeners.setdefault(topic, set())
            known = bool(listeners)
            listeners.add(listener)
            if known:
                return
            if topics.kind(topic) == "samples":
                self._bridges[topic] = asyncio.create_task(self._bridge(topic))
            elif self._channel is not None:
                # When this fails Redis has just gone; the topic is subscribed with all others later.
                with suppress(RedisError, OSError):
                    await self._layer.group_add(topics.group(topic), self._channel)

    async def unsubscribe(self, topic: str, listener: Listener) -> None:
        async with self._lock:
            listeners = self._listeners.get(topic, set())
            listeners.discard(listener)
            if listeners:
                return
            self._listeners.pop(topic, None)
            if bridge := self._bridges.pop(topic, None):
                bridge.cancel()
            elif self._channel is not None:
                with suppress(RedisError, OSError):
                    await self._layer.group_discard(topics.group(topic), self._channel)

    async def close(self) -> None:
        """Stop everything; for tests and for a loop that ends."""
        tasks = [self._watcher, self._receiver, *self._bridges.values()]
        if self._settling is not None:
            self._settling.cancel()
        for task in tasks:
            if task is not None:
                task.cancel()
        for task in tasks:
            if task is not None:
                with suppress(asyncio.CancelledError, Exception):
                    await task
        self._hubs.pop(asyncio.get_running_loop(), None)

    # -- rows ---------------------------------------------------------------------------------

    async def _start(self) -> None:
        url = redis_url()
        if self._watcher is None or (url and self._watcher.done()):
            self._watcher = asyncio.create_task(self._watch(url) if url else self._attach())
        # A moment for Redis to answer; a browser gets its snapshots even when it does not.
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._ready.wait()

    async def _watch(self, url: str) -> None:
        """Hold a connection of our own to Redis: its end is how we know that Redis went away."""
        away = False
        while True:
            client = aioredis.Redis.from_url(url, retry=Retry(NoBackoff(), 0))
            try:
                pubsub = client.pubsub()
                await pubsub.subscribe(f"slipway:sentinel:{uuid.uuid4().hex}")
                await pubsub.get_message(timeout=PING)
                await self._attach()
                if away:
                    logger.info("Redis is back; every page takes new snapshots.")
                away = False
                while True:
                    if await pubsub.get_message(timeout=PING) is None:
                        await pubsub.ping()
            except (RedisError, OSError) as error:
                if not away:
                    logger.warning("Redis is away: %s", error)
                away = True
            finally:
                with suppress(RedisError, OSError):
                    await client.aclose()
            await self._detach()
            await asyncio.sleep(RECONNECT)

    async def _attach(self) -> None:
        """Subscribe everything anew and have every browser take snapshots."""
        async with self._lock:
            self._channel = await self._layer.new_channel()
            for topic in self._listeners:
                if topics.kind(topic) == "rows":
                    await self._layer.group_add(topics.group(topic), self._channel)
            self._receiver = asyncio.create_task(self._receive(self._channel))
        if self._ready.is_set():
            self._resync()
            loop = asyncio.get_running_loop()
            self._settling = loop.call_later(SETTLE, self._resync)
        self._ready.set()

    async def _detach(self) -> None:
        """Let go of connections that are dead, so that the layer makes new ones."""
        async with self._lock:
            self._channel = None
            with suppress(RedisError, OSError):
                await self._layer.flush()
            if self._receiver is not None:
                self._receiver.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await self._receiver
                self._receiver = None
        # Whoever comes while Redis is away need not wait for it, and those who are here resync later.
        self._ready.set()

    def _resync(self) -> None:
        for listener in {one for some in self._listeners.values() for one in some}:
            listener.resync()

    async def _receive(self, channel: str) -> None:
        while True:
            event = await self._layer.receive(channel)
            try:
                message = event["message"]
                topic = message["topic"]
                kind = message["type"]
                # An object that is gone replaces its rows; what else is said of it stands beside them.
                key = (topic, "row" if kind == "gone" else kind, message["data"].get("id"))
                text = json.dumps(message, separators=(",", ":"))
            except (KeyError, TypeError, AttributeError, ValueError):
                logger.exception("A message on the channel layer makes no sense: %r", event)
                continue
            self._deliver(topic, key, text)

    def _deliver(self, topic: str, key: Hashable, text: str) -> None:
        for listener in tuple(self._listeners.get(topic, ())):
            listener.deliver(topic, key, text)

    # -- samples ------------------------------------------------------------------------------

    async def _bridge(self, topic: str) -> None:
        """Pass the watcher's samples on, through its restarts, until nobody listens."""
        container_id = topics.object_id(topic)
        request: dict[str, Any] = {"op": "host"}
        if topic != "host":
            request = {"op": "stats", "ids": [container_id] if container_id else "all"}
        while True:
            try:
                async for data in stream_client.raw_samples(request):
                    if container_id:
                        if data == "{}":
                            continue  # not running
                        # {"<id>":{…}} holds one sample; the topic says whose.
                        data = data[len(container_id) + 4 : -1]
                    text = f'{{"topic":"{topic}","type":"sample","data":{data}}}'
                    self._deliver(topic, (topic, "sample"), text)
            except EngineError as error:
                logger.debug("No samples for %s: %s", topic, error)
            await asyncio.sleep(RECONNECT)
