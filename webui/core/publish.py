"""Complete rows to everybody who watches. Channels delivers at most once; the page refetches on a gap."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from redis.exceptions import RedisError

from webui.live.sender import group_send, has_members

logger = logging.getLogger(__name__)

_state = {"away": False}


def publish(topic: str, kind: str, data: Mapping[str, Any], rev: int = 0) -> None:
    """Send {"topic", "type", "rev", "data"} to the topic's group.

    A dead Redis costs the message, never the caller: it is logged once, until it answers again.
    """
    message = {"topic": topic, "type": kind, "rev": rev, "data": data}
    try:
        group_send(_group(topic), {"type": "live.message", "message": message})
    except (RedisError, OSError) as error:
        if not _state["away"]:
            logger.warning("Updates are not published while Redis is away: %s", error)
        _state["away"] = True
    else:
        _state["away"] = False


def watched(*topics: str) -> bool:
    """Whether somebody watches one of the topics just now: for rows that cost more to make than to send.

    Nobody misses what is not sent: who begins to watch takes a snapshot when the subscription stands.
    """
    try:
        return has_members(*map(_group, topics))
    except (RedisError, OSError):
        return False  # nobody can be told


def _group(topic: str) -> str:
    return f"t.{topic.replace(':', '.')}"


def publish_row(topic: str, row: Mapping[str, Any], rev: int = 0) -> None:
    """A row to its list; a container's also to its own topic."""
    publish(topic, "row", row, rev)
    if topic == "containers":
        publish(f"container:{row['id']}", "row", row, rev)


def publish_gone(topic: str, object_id: str) -> None:
    publish(topic, "gone", {"id": object_id})
    if topic == "containers":
        publish(f"container:{object_id}", "gone", {"id": object_id})
