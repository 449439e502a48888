"""What a browser may subscribe to, and where it comes from."""

from __future__ import annotations

import re
from typing import Literal

ROW_TOPICS = frozenset({"containers", "images", "volumes", "networks", "operations", "events"})
_OF_CONTAINER = re.compile(r"(container|stats|logs):([0-9a-f]{64})")
_OF_OPERATION = re.compile(r"operation:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

Kind = Literal["rows", "samples", "logs"]


def kind(topic: str) -> Kind | None:
    """Where a topic's messages come from: the channel layer, the sampler or a log. None: no such topic."""
    if topic in ROW_TOPICS:
        return "rows"
    if _OF_OPERATION.fullmatch(topic):
        return "rows"
    if topic in ("stats", "host"):
        return "samples"
    match = _OF_CONTAINER.fullmatch(topic)
    if match is None:
        return None
    kinds: dict[str, Kind] = {"container": "rows", "stats": "samples", "logs": "logs"}
    return kinds[match[1]]


def object_id(topic: str) -> str:
    """The id in "container:<id>", "operation:<id>", "stats:<id>" or "logs:<id>"; "" for one about all."""
    return topic.partition(":")[2]


def group(topic: str) -> str:
    """The channel layer's name for a topic; it takes no colons."""
    return f"t.{topic.replace(':', '.')}"
