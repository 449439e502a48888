"""Datagrams from shims: which container to look at now.

A datagram is a hint. What happened is read from disk and kernel, and one that is lost only waits for the
next reconcile.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger(__name__)

_ID = re.compile(r"[0-9a-f]{64}")
# Room for a burst: hundreds of containers that end at once.
_BUFFER = 1 << 20  # bytes


class EventSocket(asyncio.DatagramProtocol):
    """Calls `on_event(container_id, event)` on the loop for each datagram that makes sense."""

    def __init__(self, path: Path, on_event: Callable[[str, str], None]) -> None:
        self._path = path
        self._on_event = on_event
        self._transport: asyncio.BaseTransport | None = None

    async def open(self) -> None:
        """Bind the socket, in place of one that an earlier watcher left."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            sock.bind(str(self._path))
            self._path.chmod(0o600)
            loop = asyncio.get_running_loop()
            self._transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=sock)
        except BaseException:
            sock.close()
            raise

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
        self._path.unlink(missing_ok=True)

    def datagram_received(self, data: bytes, addr: object) -> None:
        try:
            message = json.loads(data)
            container_id, event = message["id"], message["event"]
        except (ValueError, KeyError, TypeError):
            logger.warning("An event that makes no sense: %r", data[:200])
            return
        if isinstance(container_id, str) and _ID.fullmatch(container_id):
            self._on_event(container_id, str(event))
