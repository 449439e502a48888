"""Questions about the rest of the world: passed on to the host's own name servers.

Each attempt has a socket of its own, so a random port and a random id, which is what keeps a stranger
from answering in a server's place (RFC 5452).
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

from runtime.network.resolver.loop import READ, WRITE, Loop, Timer
from runtime.network.resolver.message import answers, with_id
from runtime.network.upstreams import RESOLV_CONF, system_nameservers

ATTEMPT = 1.2  # seconds for one server
PATIENCE = 3.6  # seconds in all; the C library asks its next server after 5
MAX_PENDING = 256

Done = Callable[[bytes | None], None]


class Upstreams:
    """Name servers of the host, read again when resolv.conf changes; the last good one comes first."""

    def __init__(self, path: Path = RESOLV_CONF) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._servers: list[str] = []

    def servers(self, ours: set[str]) -> list[str]:
        """Their addresses, without `ours`: asking oneself would never end."""
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
        except OSError:
            stamp = (0, 0, 0)
        if stamp != self._stamp:
            self._stamp = stamp
            self._servers = system_nameservers(self._path)
        return [server for server in self._servers if server not in ours]

    def prefer(self, server: str) -> None:
        if server in self._servers:
            self._servers.remove(server)
            self._servers.insert(0, server)


class Forwarder:
    def __init__(self, loop: Loop, upstreams: Upstreams, *, port: int = 53) -> None:
        self._loop = loop
        self._upstreams = upstreams
        self._port = port
        self.pending = 0

    def ask(
        self,
        message: bytes,
        *,
        stream: bool,
        ours: set[str],
        done: Done,
        chosen: Sequence[str] = (),
    ) -> None:
        """Forward `message` (over TCP if `stream`); `done` gets the reply with the same id, or None.

        The servers in `chosen` are asked instead of the host's, if there are any. None comes at once when
        there is nobody to ask, and after PATIENCE seconds at the latest.
        """
        servers = [s for s in chosen if s not in ours] if chosen else self._upstreams.servers(ours)
        if not servers or self.pending >= MAX_PENDING:
            done(None)
            return
        self.pending += 1
        _Question(self, self._loop, message, stream, servers, self._port, done).start()

    def finished(self, server: str | None) -> None:
        self.pending -= 1
        if server is not None:
            self._upstreams.prefer(server)


class _Question:
    """One question on its way, from server to server until one answers."""

    def __init__(
        self,
        forwarder: Forwarder,
        loop: Loop,
        message: bytes,
        stream: bool,
        servers: list[str],
        port: int,
        done: Done,
    ) -> None:
        self._forwarder = forwarder
        self._loop = loop
        self._message = message
        self._stream = stream
        # Datagrams get lost: everybody is asked a second time.
        self._servers = servers if stream else servers * 2
        self._port = port
        self._done: Done | None = done
        self._socket: socket.socket | None = None
        self._timer: Timer | None = None
        self._server = ""
        self._query = b""
        self._received = b""

    def start(self) -> None:
        self._end = self._loop.after(PATIENCE, lambda: self._finish(None))
        self._next()

    def _next(self) -> None:
        """Ask the next server; without one, give up."""
        self._drop()
        while self._servers:
            self._server = self._servers.pop(0)
            self._query = with_id(self._message, int.from_bytes(os.urandom(2), "big"))
            self._received = b""
            try:
                self._open()
            except OSError:  # no route to it, or no memory for a socket
                self._drop()
                continue
            self._timer = self._loop.after(ATTEMPT, self._next)
            return
        self._finish(None)

    def _open(self) -> None:
        address, _, scope = self._server.partition("%")
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        kind = socket.SOCK_STREAM if self._stream else socket.SOCK_DGRAM
        self._socket = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        target: tuple[object, ...] = (address, self._port)
        if scope:
            target = (address, self._port, 0, socket.if_nametoindex(scope))
        try:
            self._socket.connect(target)
        except BlockingIOError:
            pass
        if self._stream:
            self._loop.watch(self._socket, WRITE, self._send_stream)
        else:
            self._socket.send(self._query)
            self._loop.watch(self._socket, READ, self._receive)

    def _send_stream(self) -> None:
        """The connection is made, or was refused; a query fits into an empty send buffer."""
        assert self._socket is not None
        try:
            self._socket.send(struct.pack("!H", len(self._query)) + self._query)
        except OSError:
            self._next()
            return
        self._loop.watch(self._socket, READ, self._receive)

    def _receive(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(65537)
        except BlockingIOError:
            return
        except OSError:  # refused: nobody serves there
            self._next()
            return
        if self._stream:
            if not data:
                self._next()
                return
            self._received += data
            if len(self._received) < 2 or len(self._received) - 2 < _length(self._received):
                return
            data = self._received[2 : 2 + _length(self._received)]
        if answers(data, self._query):
            self._finish(data)
        elif self._stream:
            self._next()

    def _finish(self, reply: bytes | None) -> None:
        done, self._done = self._done, None
        if done is None:
            return
        self._end.cancel()
        self._drop()
        self._forwarder.finished(self._server if reply is not None else None)
        done(None if reply is None else self._message[:2] + reply[2:])

    def _drop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._socket is not None:
            self._loop.forget(self._socket)
            self._socket = None


def _length(data: bytes) -> int:
    return int(struct.unpack_from("!H", data)[0])
