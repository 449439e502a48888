"""One browser's view of one container's log, through restarts of the watcher."""

from __future__ import annotations

import asyncio
import json
import math
import time
from contextlib import aclosing
from datetime import datetime
from typing import Any, Literal

from webui.live import stream_client, topics
from webui.live.outbox import Outbox
from webui.live.stream_client import Line, StreamRefused, StreamUnavailable

DEFAULT_TAIL = 200  # lines
MAX_TAIL = 10_000
RECONNECT = 0.5  # seconds
_MICROSECONDS = 5e-6  # more than the rounding of a time between here and the disk

_STREAMS: tuple[Literal["stdout", "stderr"], ...] = ("stdout", "stderr")


async def follow(topic: str, options: dict[str, Any], outbox: Outbox) -> None:
    """Send the last lines and then every new one, as fast as the browser takes them.

    The first message is a "snapshot", which replaces what a page showed before its connection broke; the
    others are "lines" that come after it. `options` may hold "tail" (lines), "streams", and "since" and "until" (Unix
    seconds); once "until" has passed nothing new is waited for. When the watcher restarts, the log goes on after
    the last line that was sent.
    """
    container_id = topics.object_id(topic)
    tail: int | None = _tail(options.get("tail"))
    streams = [s for s in _STREAMS if s in (options.get("streams") or _STREAMS)]
    since, until = _moment(options.get("since")), _moment(options.get("until"))
    place = Place()
    kind = "snapshot"
    while True:
        try:
            batches = stream_client.logs(
                container_id,
                tail=tail,
                follow=until is None or until > time.time(),
                since=since if place.since is None else place.since,
                until=until,
                streams=streams,
            )
            async with aclosing(batches):
                async for batch in batches:
                    if lines := place.after(batch):
                        await outbox.put_lines(_message(topic, kind, lines))
                        kind, tail = "lines", None
            if kind == "snapshot":
                outbox.append(_message(topic, kind, []))  # nothing was written in that time
            outbox.append(_message(topic, "end", {}))
            return
        except StreamUnavailable:
            place.reconnect()
            await asyncio.sleep(RECONNECT)
        except StreamRefused as error:
            outbox.append(_message(topic, "error", {"code": error.code, "message": error.message}))
            return


class Place:
    """How far into a log a reader is. Lines of one write share their time, so it counts those as well."""

    def __init__(self) -> None:
        self._time = ""  # of the last line; as text it sorts like the time
        self._count = 0  # lines seen with that time
        self._skip = 0  # how many of those a new connection will bring again

    @property
    def since(self) -> float | None:
        """From when to ask, in Unix seconds: a little early, `after` drops what is known."""
        if not self._time:
            return None
        return datetime.fromisoformat(self._time).timestamp() - _MICROSECONDS

    def reconnect(self) -> None:
        self._skip = self._count

    def after(self, batch: list[Line]) -> list[Line]:
        """The lines of `batch` that were not seen before."""
        fresh = []
        for line in batch:
            written = line["time"]
            if written < self._time and self._skip:
                continue
            if written == self._time and self._skip:
                self._skip -= 1
                continue
            self._skip = 0
            self._count = self._count + 1 if written == self._time else 1
            self._time = written
            fresh.append(line)
        return fresh


def _tail(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return max(0, min(value, MAX_TAIL))
    return DEFAULT_TAIL


def _moment(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def _message(topic: str, kind: str, data: Any) -> str:
    return json.dumps({"topic": topic, "type": kind, "data": data}, separators=(",", ":"))
