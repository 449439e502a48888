"""Tasks to hosts, by name and with an operation's id only; and waiting for their end."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import redis
from celery import Celery
from django.conf import settings
from kombu.exceptions import OperationalError

from webui.operations.models import Operation

logger = logging.getLogger(__name__)

_TIMEOUT = 1.0  # seconds for the broker to take a message; the watcher sends what it did not take
_FALLBACK = 1.0  # seconds between looks at the database while Redis is silent


@functools.cache
def celery_app() -> Celery:
    """A producer only: it knows no task, just the broker."""
    app = Celery("slipway-web", fixups=(), set_as_current=False)
    app.conf.update(
        broker_url=broker_url(settings.ENVIRONMENT.redis),
        broker_transport_options={
            "socket_timeout": _TIMEOUT,
            "socket_connect_timeout": _TIMEOUT,
            "max_retries": 0,
        },
        task_serializer="json",
        task_ignore_result=True,
        broker_pool_limit=4,
    )
    return app


def broker_url(url: str) -> str:
    """A Redis URL as Celery spells it."""
    parts = urlsplit(url)
    if parts.scheme != "unix":
        return url
    database = parse_qs(parts.query).get("db", ["0"])[0]
    return f"redis+socket://{parts.path}?virtual_host={database}"


def send(operation: Operation) -> None:
    """Put the operation into its host's queue. With the broker down it stays pending, and the watcher
    sends it as soon as that is back.
    """
    try:
        celery_app().send_task(
            operation.kind,
            args=[str(operation.pk)],
            queue=f"host.{operation.host_id}",
            retry=False,
            ignore_result=True,
        )
    except (OperationalError, redis.RedisError, OSError) as error:
        logger.warning("Operation %s waits for the broker: %s", operation.pk, error)


@functools.cache
def redis_client() -> redis.Redis:
    return redis.Redis.from_url(
        settings.ENVIRONMENT.redis, socket_timeout=None, socket_connect_timeout=_TIMEOUT
    )


def channel(operation_id: Any) -> str:
    """Redis pub/sub channel on which a worker announces the operation's end."""
    return f"slipway:{settings.SLIPWAY.name}:operation:{operation_id}"


class Waiter:
    """Waits for the end of one operation. Subscribe before it is sent, so that nothing is missed."""

    def __init__(self, operation_id: Any) -> None:
        self._id = operation_id
        self._pubsub = redis_client().pubsub(ignore_subscribe_messages=True)
        try:
            self._pubsub.subscribe(channel(operation_id))
            self._listening = True
        except (redis.RedisError, OSError):
            self._listening = False

    def wait(self, timeout: float) -> Operation:
        """The operation when it has ended, or as it is after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            announced = self._pause(min(left, _FALLBACK))
            operation = Operation.objects.select_related("user").get(pk=self._id)
            if announced or not operation.is_live:
                return operation
        return Operation.objects.select_related("user").get(pk=self._id)

    def _pause(self, seconds: float) -> bool:
        """True when the end was announced."""
        if not self._listening:
            time.sleep(seconds)
            return False
        try:
            deadline = time.monotonic() + seconds
            while (left := deadline - time.monotonic()) > 0:
                if self._pubsub.get_message(timeout=left) is not None:
                    return True
        except (redis.RedisError, OSError):
            self._listening = False
        return False

    def close(self) -> None:
        try:
            self._pubsub.close()
        except (redis.RedisError, OSError):
            pass


@contextmanager
def waiting(operation_id: Any) -> Iterator[Waiter]:
    waiter = Waiter(operation_id)
    try:
        yield waiter
    finally:
        waiter.close()
