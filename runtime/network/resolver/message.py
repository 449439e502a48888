"""DNS messages, as far as answering A, AAAA and PTR questions needs them (RFC 1035, section 4; RFC 3596)."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Final

A: Final = 1
PTR: Final = 12
AAAA: Final = 28
ANY: Final = 255
IN: Final = 1

NOERROR: Final = 0
FORMERR: Final = 1
SERVFAIL: Final = 2
NXDOMAIN: Final = 3
NOTIMP: Final = 4

UDP_SIZE: Final = 512  # what every client takes without EDNS
TTL: Final = 5  # seconds; a container's address may change at its next start
_HEADER = struct.Struct("!HHHHHH")  # id, flags, questions, answers, authority, additional
_QR, _AA, _TC, _RD, _RA = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
_NAME_OF_QUESTION = b"\xc0\x0c"  # pointer to offset 12


class Malformed(Exception):
    """The bytes are no query. `reply` is what to send back; b"" when nothing should be."""

    def __init__(self, reply: bytes = b"") -> None:
        super().__init__("malformed query")
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Query:
    id: int
    recursion_desired: bool
    name: str  # lower case, without the last dot
    type: int
    cls: int
    question: bytes  # as received: a reply repeats it, upper and lower case included
    message: bytes  # the whole query, to forward


def parse(data: bytes) -> Query:
    """Read a query with one question. Raises Malformed."""
    if len(data) < _HEADER.size:
        raise Malformed
    number, flags, questions, _, _, _ = _HEADER.unpack_from(data)
    if flags & _QR:  # a reply: answering it could start a loop
        raise Malformed
    if flags >> 11 & 0xF:
        raise Malformed(_HEADER.pack(number, _flags(flags, NOTIMP), 0, 0, 0, 0))
    malformed = Malformed(_HEADER.pack(number, _flags(flags, FORMERR), 0, 0, 0, 0))
    if questions != 1:
        raise malformed
    labels: list[str] = []
    offset = _HEADER.size
    while True:
        if offset >= len(data):
            raise malformed
        length = data[offset]
        offset += 1
        if length == 0:
            break
        # Longer than a label may be: a compression pointer, which has nothing to point at here.
        if length > 63 or offset + length > len(data) or offset - _HEADER.size > 254:
            raise malformed
        labels.append(data[offset : offset + length].decode("latin-1"))
        offset += length
    if offset + 4 > len(data):
        raise malformed
    kind, cls = struct.unpack_from("!HH", data, offset)
    return Query(
        id=number,
        recursion_desired=bool(flags & _RD),
        name=".".join(labels).lower(),
        type=kind,
        cls=cls,
        question=data[_HEADER.size : offset + 4],
        message=data,
    )


def addresses_reply(query: Query, addresses: list[str], *, limit: int) -> bytes:
    """A NOERROR reply with one record per address, all of one family; none makes "no such data".

    Over `limit` bytes it says truncated instead, and the client asks again over TCP.
    """
    if addresses and ":" in addresses[0]:
        packed = [socket.inet_pton(socket.AF_INET6, address) for address in addresses]
        return _records(query, AAAA, packed, limit)
    return _records(query, A, [socket.inet_aton(address) for address in addresses], limit)


def name_reply(query: Query, name: str, *, limit: int) -> bytes:
    """A NOERROR reply to a reverse lookup."""
    encoded = b"".join(
        bytes((len(label),)) + label for label in name.encode("latin-1", "replace").split(b".")
    )
    return _records(query, PTR, [encoded + b"\0"], limit)


def error_reply(query: Query, code: int) -> bytes:
    """A reply without records: NXDOMAIN, SERVFAIL …"""
    flags = _flags(_RD if query.recursion_desired else 0, code)
    return _HEADER.pack(query.id, flags, 1, 0, 0, 0) + query.question


def with_id(message: bytes, number: int) -> bytes:
    return struct.pack("!H", number) + message[2:]


def answers(message: bytes, query: bytes) -> bool:
    """Whether `message` is the reply to `query`: its id and question are the same."""
    if len(message) < _HEADER.size or message[:2] != query[:2] or not message[2] & 0x80:
        return False
    try:
        question = parse(query).question
    except Malformed:
        return False
    # Some servers leave the question out of an error.
    repeated = message[_HEADER.size : _HEADER.size + len(question)]
    return message[4:6] == b"\0\0" or repeated.lower() == question.lower()


def _records(query: Query, kind: int, data: list[bytes], limit: int) -> bytes:
    flags = _flags(_RD if query.recursion_desired else 0, NOERROR) | _AA
    body = b"".join(
        _NAME_OF_QUESTION + struct.pack("!HHIH", kind, IN, TTL, len(rdata)) + rdata
        for rdata in data
    )
    count = len(data)
    if _HEADER.size + len(query.question) + len(body) > limit:
        body, count, flags = b"", 0, flags | _TC
    return _HEADER.pack(query.id, flags, 1, count, 0, 0) + query.question + body


def _flags(asked: int, code: int) -> int:
    return _QR | _RA | (asked & (_RD | 0x7800)) | code
