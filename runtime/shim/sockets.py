"""Unix sockets for monitors: the interpreter's own class, without the wrapper of the socket module.

The wrapper makes enum members of family and kind whenever a socket is made, which is slow, and touches so
many objects that each monitor would copy another 150 kB of the launcher's memory for it.
"""

from __future__ import annotations

import _socket
import json
import struct
from _socket import (
    AF_UNIX,
    CMSG_LEN,
    MSG_CMSG_CLOEXEC,
    SCM_RIGHTS,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    SOL_SOCKET,
    socketpair,
)
from typing import Any

Socket = _socket.socket
_CHUNK = 1 << 16

__all__ = ["SOCK_SEQPACKET", "SOCK_STREAM", "SOL_SOCKET", "Socket"]


def pair(kind: int = SOCK_STREAM) -> tuple[Socket, Socket]:
    return socketpair(AF_UNIX, kind)


def adopt(fd: int) -> Socket:
    """The stream socket that `fd` is; it closes `fd`."""
    return Socket(AF_UNIX, SOCK_STREAM, 0, fd)


def listen(path: str) -> Socket:
    """A listening socket, which never blocks."""
    made = Socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    made.bind(path)
    made.listen(64)
    made.setblocking(False)
    return made


def receiver(path: str) -> Socket:
    """A socket that takes datagrams."""
    made = Socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)
    made.bind(path)
    return made


def accept(listener: Socket) -> Socket:
    fd, _ = listener._accept()  # type: ignore[attr-defined] # what the wrapper's accept() calls
    return adopt(fd)


def send_fds(channel: Socket, data: bytes, fds: list[int]) -> None:
    channel.sendmsg([data], [(SOL_SOCKET, SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))])


def recv_fds(channel: Socket, size: int, most: int) -> tuple[bytes, list[int]]:
    """(message, descriptors, none of them inheritable); (b"", []) when the other side has gone."""
    room = CMSG_LEN(4 * most)
    data, ancillary, _, _ = channel.recvmsg(size, room, MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, content in ancillary:
        if level == SOL_SOCKET and kind == SCM_RIGHTS:
            fds += struct.unpack(f"{len(content) // 4}i", content[: len(content) // 4 * 4])
    return data, fds


def send_json(channel: Socket, message: dict[str, Any]) -> None:
    """One line."""
    channel.sendall(json.dumps(message).encode() + b"\n")


def receive_line(channel: Socket) -> bytes:
    """One line; b"" when the other side has gone. Nothing follows a line unasked, so none is cut."""
    data = b""
    while not data.endswith(b"\n"):
        chunk = channel.recv(_CHUNK)
        if not chunk:
            return b""
        data += chunk
    return data


def send_datagram(path: str, data: bytes) -> None:
    """Never blocks. Raises OSError when nobody listens, or not fast enough."""
    channel = Socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)
    try:
        channel.setblocking(False)
        channel.sendto(data, path)
    finally:
        channel.close()
