"""Tasks to hosts, by name and with an operation's id only; and waiting for their end."""

from __future__ import annotations

import functools
import json
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from uuid import UUID

import redis
from django.conf import settings
from django.db.models import QuerySet

from webui.core import broker
from webui.core.prepared import prepared
from webui.live import sender
from webui.operations.models import Operation

logger = logging.getLogger(__name__)

Row = Mapping[str, Any]

_TIMEOUT = 1.0  # seconds for Redis to take a subscription
_FALLBACK = 1.0  # seconds between looks at the database while Redis is silent


def send(operation: Operation) -> None:
    """Put the operation into its host's queue. With the broker down it stays pending, and the watcher
    sends it as soon as that is back.
    """
    try:
        broker.put(operation.host_id, operation.kind, str(operation.pk))
    except (redis.RedisError, OSError) as error:
        logger.warning("Operation %s waits for the broker: %s", operation.pk, error)


@functools.cache
def redis_client() -> redis.Redis:
    return redis.Redis.from_url(
        settings.ENVIRONMENT.redis,
        socket_timeout=None,
        socket_connect_timeout=_TIMEOUT,
        **sender.TERSE,
    )


def channel(operation_id: Any) -> str:
    """Redis pub/sub channel on which the operation's end is announced."""
    return f"slipway:{settings.SLIPWAY.name}:operation:{operation_id}"


def announce(operation: Operation, row: Row | None = None) -> None:
    """Wake those who wait for this operation's end; they look into the database when nothing comes.

    `row` is its target's as it is now: who has waited for it need not read it once more.
    """
    news = json.dumps({"status": operation.status, "row": row}, separators=(",", ":"))
    try:
        sender.send(channel(operation.pk), news.encode())
    except (redis.RedisError, OSError) as error:
        logger.warning("The end of operation %s was not announced: %s", operation.pk, error)


def wait_for(operation: Operation, timeout: float) -> tuple[Operation, Row | None]:
    """The operation when it has ended, or as it is after `timeout` seconds; and its target's row when
    it has succeeded and the announcement has brought that.

    Wakes on the worker's announcement; with Redis away it looks into the database once a second. The
    subscription is confirmed before the first look, so that an end in between is not missed.
    """
    deadline = time.monotonic() + timeout
    pubsub = redis_client().pubsub()
    try:
        listening = _subscribe(pubsub, channel(operation.pk))
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not _is_live(operation):
                return Operation.objects.select_related("user").get(pk=operation.pk), None
            news: dict[str, Any] = {}
            if listening:
                listening, news = _listen(pubsub, min(left, _FALLBACK))
            if news.get("row") and news["status"] == Operation.Status.SUCCEEDED:
                operation.status = news["status"]
                return operation, news["row"]
            if not listening:
                time.sleep(min(max(left, 0), _FALLBACK))
    finally:
        with suppress(redis.RedisError, OSError):
            pubsub.close()


def _is_live(operation: Operation) -> bool:
    """A look at no more than that: most waits begin with one, and end with an announcement."""
    return bool(_live(operation.pk))


@prepared
def _live(operation_id: UUID) -> QuerySet[Operation, str]:
    live = Operation.objects.filter(pk=operation_id, status__in=Operation.LIVE)
    return live.order_by().values_list("kind", flat=True)


def _subscribe(pubsub: Any, name: str) -> bool:
    try:
        pubsub.subscribe(name)
        return pubsub.get_message(timeout=_TIMEOUT) is not None
    except (redis.RedisError, OSError):
        return False


def _listen(pubsub: Any, seconds: float) -> tuple[bool, dict[str, Any]]:
    """Wait for an announcement at most this long, {} when none came; False when Redis has gone."""
    try:
        message = pubsub.get_message(timeout=seconds)
    except (redis.RedisError, OSError):
        return False, {}
    if message is None or message["type"] != "message":
        return True, {}
    news: dict[str, Any] = json.loads(message["data"])
    return True, news
