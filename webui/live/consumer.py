"""One browser's websocket: topics in, snapshots and rows out.

The client sends {"action": "subscribe" | "unsubscribe", "topics": […], "options": {topic: {…}}}. It gets,
per topic, a snapshot and from then on rows with revisions, samples or log lines:
docs/design/009-one-websocket.md. The database is asked for snapshots and, now and then, whether the session
still holds.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from importlib import import_module
from typing import Any

from channels.auth import get_user
from django.conf import settings
from django.db import DatabaseError

from runtime.errors import EngineError
from webui.live import stream_client, topics
from webui.live.hub import Hub
from webui.live.logs import follow
from webui.live.outbox import Outbox, Overflow
from webui.live.snapshots import snapshot

logger = logging.getLogger(__name__)

MAX_TOPICS = 200  # of one connection
MAX_MESSAGE = 64 * 1024  # characters a client may send at once
RECHECK = 30.0  # seconds between looks at the session
RETRY = 1.0  # seconds before a snapshot that failed is tried again

UNAUTHENTICATED = 4401  # close codes; 4000 to 4999 are ours (RFC 6455, 7.4.2)
TOO_SLOW = 4408
BAD_MESSAGE = 4400

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class LiveConsumer:
    """An ASGI application for one connection.

    Not a Channels consumer: those take a channel, a queue and a subscription of their own each, and refuse
    connections while Redis is away. The hub has one for all.
    """

    @classmethod
    def as_asgi(cls) -> Callable[[dict[str, Any], Receive, Send], Awaitable[None]]:
        async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            await cls(scope, receive, send).run()

        return application

    def __init__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._hub = Hub.current()
        self._outbox = Outbox()
        self._tasks: dict[str, asyncio.Task[None]] = {}  # per topic: its snapshot, or its log
        self._topics: dict[str, dict[str, Any]] = {}  # topic -> its options
        self._held: dict[str, dict[Hashable, str]] = {}  # rows that wait for their snapshot
        self._close_code: int | None = None
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Serve the connection until it closes."""
        await self._receive()  # websocket.connect
        user = self._scope.get("user")
        if user is None or not user.is_authenticated:
            # Accepted first: only then does the browser get to see the close code.
            await self._send({"type": "websocket.accept"})
            await self._send({"type": "websocket.close", "code": UNAUTHENTICATED})
            return
        await self._send({"type": "websocket.accept"})
        parts = [
            asyncio.create_task(part())
            for part in (self._read, self._write, self._recheck, self._ended.wait)
        ]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                part.result()
            if self._close_code is not None:
                await self._send({"type": "websocket.close", "code": self._close_code})
        except (OSError, Overflow):
            # The browser went away in the middle of a message.
            pass
        finally:
            await self._leave(parts)

    async def _leave(self, parts: list[asyncio.Task[Any]]) -> None:
        tasks = [*parts, *self._tasks.values()]
        for task in tasks:
            task.cancel()
        for topic in self._topics:
            await self._hub.unsubscribe(topic, self)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _close(self, code: int) -> None:
        self._close_code = code
        self._ended.set()

    # -- from the browser ---------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            event = await self._receive()
            if event["type"] == "websocket.disconnect":
                return
            try:
                await self._handle(event.get("text") or "")
            except ValueError as error:
                self._error("", "bad_message", str(error))

    async def _handle(self, text: str) -> None:
        """Raises ValueError when the message makes no sense."""
        if len(text) > MAX_MESSAGE:
            self._close(BAD_MESSAGE)
            return
        message = json.loads(text)
        if not isinstance(message, dict) or not isinstance(message.get("topics"), list):
            raise ValueError('Send {"action": "subscribe", "topics": […]}.')
        options = message.get("options")
        if not isinstance(options, dict):
            options = {}
        action = {"subscribe": self._subscribe, "unsubscribe": self._unsubscribe}.get(
            str(message.get("action"))
        )
        if action is None:
            raise ValueError("The action must be subscribe or unsubscribe.")
        for topic in map(str, message["topics"]):
            choice = options.get(topic)
            await action(topic, choice if isinstance(choice, dict) else {})

    async def _subscribe(self, topic: str, options: dict[str, Any]) -> None:
        kind = topics.kind(topic)
        if kind is None:
            self._error(topic, "unknown_topic", f"There is no topic {topic[:100]!r}.")
            return
        if topic not in self._topics and len(self._topics) >= MAX_TOPICS:
            self._error(topic, "too_many_topics", f"{MAX_TOPICS} topics are the limit.")
            return
        self._topics[topic] = options
        if kind == "rows":
            self._held.setdefault(topic, {})
            await self._hub.subscribe(topic, self)
            self._start(topic, self._load(topic))
        elif kind == "samples":
            await self._hub.subscribe(topic, self)
            self._start(topic, self._begin(topic))
        else:
            self._start(topic, follow(topic, options, self._outbox))

    async def _unsubscribe(self, topic: str, _: dict[str, Any]) -> None:
        if self._topics.pop(topic, None) is None:
            return
        if task := self._tasks.pop(topic, None):
            task.cancel()
        self._held.pop(topic, None)
        await self._hub.unsubscribe(topic, self)
        self._outbox.drop(topic)

    def _start(self, topic: str, work: Any) -> None:
        if before := self._tasks.get(topic):
            before.cancel()
        task = asyncio.create_task(work)
        self._tasks[topic] = task
        task.add_done_callback(self._worked)

    def _worked(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, Overflow):
            self._close(TOO_SLOW)
        else:
            logger.error("A live topic failed.", exc_info=error)

    # -- to the browser -----------------------------------------------------------------------

    async def _write(self) -> None:
        while True:
            await self._send({"type": "websocket.send", "text": await self._outbox.take()})

    async def _load(self, topic: str) -> None:
        """Send a snapshot, then the rows that came while it was taken."""
        while True:
            try:
                data = await snapshot(topic)
                break
            except EngineError as error:
                self._error(topic, error.code, error.message)
                data = None
                break
            except DatabaseError as error:
                logger.warning("No snapshot of %s: %s", topic, error)
                await asyncio.sleep(RETRY)
        self._outbox.drop(topic)
        if data is not None:
            text = json.dumps({"topic": topic, "type": "snapshot", "data": data})
            self._outbox.put((topic, "snapshot"), text)
        for key, text in self._held.pop(topic, {}).items():
            self._outbox.put(key, text)

    async def _begin(self, topic: str) -> None:
        """Send what was read before anybody looked; what is read now may come before it."""
        of = topics.object_id(topic) or ("all" if topic == "stats" else topic)
        try:
            data = await stream_client.history(of)
        except EngineError as error:
            logger.debug("No history for %s: %s", topic, error)
            return
        text = f'{{"topic":"{topic}","type":"snapshot","data":{data}}}'
        self._outbox.put((topic, "snapshot"), text)

    def deliver(self, topic: str, key: Hashable, text: str) -> None:
        """A message from the hub; held back while the topic's snapshot is being taken."""
        held = self._held.get(topic)
        if held is not None:
            held[key] = text
            return
        try:
            self._outbox.put(key, text)
        except Overflow:
            self._close(TOO_SLOW)

    def resync(self) -> None:
        """Messages may have been lost: take every snapshot again."""
        for topic in self._topics:
            if topics.kind(topic) == "rows":
                self._held.setdefault(topic, {})
                self._start(topic, self._load(topic))

    def _error(self, topic: str, code: str, message: str) -> None:
        data = {"code": code, "message": message}
        with suppress(Overflow):
            self._outbox.append(json.dumps({"topic": topic, "type": "error", "data": data}))

    # -- the session --------------------------------------------------------------------------

    async def _recheck(self) -> None:
        """Close when the user has signed out, or may not sign in any more."""
        while True:
            await asyncio.sleep(RECHECK)
            try:
                holds = await session_holds(self._scope)
            except DatabaseError:
                continue
            if not holds:
                self._close(UNAUTHENTICATED)
                return


async def session_holds(scope: dict[str, Any]) -> bool:
    """Whether the session still exists and its user may still sign in with it."""
    key = getattr(scope.get("session"), "session_key", None)
    if key is None:
        return True
    store = import_module(settings.SESSION_ENGINE).SessionStore(session_key=key)
    user = await get_user({"session": store})
    return bool(user.is_authenticated)
