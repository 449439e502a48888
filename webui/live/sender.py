"""Messages into the channel layer from code that is not async, in a twentieth of a millisecond.

`async_to_sync(layer.group_send)` starts an event loop and a Redis connection per message, which is more than
everything else that a container's start does in Python. Here they go out over one connection whose replies
are off: sending is one system call, and nobody waits for Redis. (A thread that sends would wait for the
interpreter's lock, and so would whoever gave it the message.) What goes over the wire is the same.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

import redis
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.conf import settings
from redis.backoff import NoBackoff
from redis.connection import ConnectionInterface as Connection
from redis.exceptions import RedisError
from redis.retry import Retry

_TIMEOUT = 1.0  # seconds; news is not worth more

# A new connection says nothing of itself and agrees on no dialect: three round trips less, for each wait has a new one.
TERSE: dict[str, Any] = {"protocol": 2, "driver_info": None}


def group_send(group: str, event: dict[str, Any]) -> None:
    """Send `event` to a group of the default channel layer. Raises RedisError or OSError."""
    layer = get_channel_layer()
    if not isinstance(layer, RedisPubSubChannelLayer):
        async_to_sync(layer.group_send)(group, event)
        return
    send(_channel(group), layer.serialize(event))


def has_members(*groups: str) -> bool:
    """Whether somebody is in one of the groups; True where the layer cannot tell. Raises RedisError or OSError."""
    url = redis_url()
    if not url or not isinstance(get_channel_layer(), RedisPubSubChannelLayer):
        return True
    found = client(url).pubsub_numsub(*map(_channel, groups))
    return any(count for _, count in found)


def _channel(group: str) -> str:
    """The name under which channels_redis's pub/sub layer subscribes a group (its _get_group_channel_name)."""
    config = settings.CHANNEL_LAYERS["default"]["CONFIG"]
    return f"{config.get('prefix', 'asgi')}__group__{group}"


def send(channel: str, data: bytes) -> None:
    """Publish `data` without waiting for Redis. Raises RedisError or OSError when that is away."""
    _outgoing.publish(channel, data)


class Outgoing:
    """A connection that only takes messages; made again when it breaks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: Connection | None = None

    def publish(self, channel: str, data: bytes) -> None:
        """Raises RedisError or OSError when Redis is away."""
        with self._lock:
            if self._connection is not None:
                try:
                    self._send(self._connection, channel, data)
                    return
                except (RedisError, OSError):
                    # It has been restarted since; once more, with a new connection.
                    self._close()
            self._connection = self._connect()
            try:
                self._send(self._connection, channel, data)
            except BaseException:
                self._close()
                raise

    def _send(self, connection: Connection, channel: str, data: bytes) -> None:
        connection.send_packed_command(connection.pack_command("PUBLISH", channel, data))

    def _connect(self) -> Connection:
        connection = client(settings.ENVIRONMENT.redis).connection_pool.make_connection()
        try:
            connection.connect()
            connection.send_command("CLIENT", "REPLY", "OFF")
        except BaseException:
            connection.disconnect()
            raise
        return connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None


_outgoing = Outgoing()


def redis_url() -> str:
    """The URL of the channel layer's Redis; "" when the layer lives in this process (tests)."""
    layer: dict[str, Any] = settings.CHANNEL_LAYERS["default"]
    if "redis" not in layer["BACKEND"]:
        return ""
    host = layer["CONFIG"]["hosts"][0]
    return str(host["address"] if isinstance(host, dict) else host)


@functools.cache
def client(url: str) -> redis.Redis:
    """A pooled client for news: every command fails within a second when Redis is away."""
    return redis.Redis.from_url(
        url,
        socket_timeout=_TIMEOUT,
        socket_connect_timeout=_TIMEOUT,
        **TERSE,
        # A pooled connection to a Redis that has been restarted since: once more, with a new one.
        retry=Retry(NoBackoff(), 1),
        retry_on_error=[redis.ConnectionError],
    )
