"""Messages to hosts' workers, in the form that Celery's workers read, without Celery.

Its own way to send one takes three quarters of a millisecond at least, as kombu makes a Redis client for each message,
and this a tenth. And it takes 7 MB in each process that sends.

https://docs.celeryq.dev/en/stable/internals/protocol.html is the form; what is left out there may be left out.
"""

from __future__ import annotations

import base64
import json
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

from django.conf import settings

from webui.live.sender import client


def queue_of(host_id: str) -> str:
    """The name of a host's queue, which is that of a list in Redis."""
    return f"host.{host_id}"


def put(host_id: str, kind: str, operation_id: str) -> None:
    """Have the host's worker run the task `kind` for an operation. Raises RedisError or OSError within a second or two.

    Redis may have taken it all the same, once or twice.
    """
    client(settings.ENVIRONMENT.redis).lpush(
        queue_of(host_id), message(host_id, kind, operation_id)
    )


def message(host_id: str, kind: str, operation_id: str) -> bytes:
    """The task's name, and the operation's id as its one argument."""
    task_id = str(uuid4())
    body = json.dumps([[operation_id], {}, {}]).encode()
    envelope = {
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"lang": "py", "task": kind, "id": task_id, "root_id": task_id},
        "properties": {
            "correlation_id": task_id,
            "delivery_tag": task_id,
            "delivery_info": {"exchange": "", "routing_key": queue_of(host_id)},
            "body_encoding": "base64",
        },
        "body": base64.b64encode(body).decode(),
    }
    return json.dumps(envelope).encode()


def broker_url(url: str) -> str:
    """A Redis URL as Celery spells it."""
    parts = urlsplit(url)
    if parts.scheme != "unix":
        return url
    database = parse_qs(parts.query).get("db", ["0"])[0]
    return f"redis+socket://{parts.path}?virtual_host={database}"
