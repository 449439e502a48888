"""One browser's view of one container's log, through restarts of the watcher."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from datetime import datetime
from typing import Any, Literal

from webui.live import stream_client, topics
from webui.live.outbox import Outbox
from webui.live.stream_client import StreamRefused, StreamUnavailable

DEFAULT_TAIL = 200  # lines
MAX_TAIL = 10_000
RECONNECT = 0.5  # seconds

_STREAMS: tuple[Literal["stdout", "stderr"], ...] = ("stdout", "stderr")


async def follow(topic: str, options: dict[str, Any], outbox: Outbox) -> None:
    """Send the last lines and then every new one, as fast as the browser takes them.

    The first message is a "snapshot", which replaces what a page showed before its connection broke; the
    others are "lines" that come after it. `options` may hold "tail" (lines) and "streams". When the watcher restarts, the log goes on after the
    last line that was sent.
    """
    container_id = topics.container_id(topic)
    tail: int | None = _tail(options.get("tail"))
    streams = [s for s in _STREAMS if s in (options.get("streams") or _STREAMS)]
    since: float | None = None
    kind = "snapshot"
    while True:
        try:
            batches = stream_client.logs(
                container_id, tail=tail, follow=True, since=since, streams=streams
            )
            async with aclosing(batches):
                async for lines in batches:
                    await outbox.put_lines(_message(topic, kind, lines))
                    kind = "lines"
                    # Times have microseconds: the next line is at least one later, or as good as that.
                    since = datetime.fromisoformat(lines[-1]["time"]).timestamp() + 1e-6
                    tail = None
            outbox.append(_message(topic, "end", {}))
            return
        except StreamUnavailable:
            await asyncio.sleep(RECONNECT)
        except StreamRefused as error:
            outbox.append(_message(topic, "error", {"code": error.code, "message": error.message}))
            return


def _tail(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return max(0, min(value, MAX_TAIL))
    return DEFAULT_TAIL


def _message(topic: str, kind: str, data: Any) -> str:
    return json.dumps({"topic": topic, "type": kind, "data": data}, separators=(",", ":"))
