"""Forgetting tracked connections: one netlink message with a filter where the kernel takes one.

Sources: include/uapi/linux/netfilter/nfnetlink_conntrack.h and net/netfilter/nf_conntrack_netlink.c; a
delete request with CTA_FILTER removes what the filter matches. A kernel that does not know that (Linux 6.1)
takes the incomplete tuple for one connection's and refuses: it is asked which match, and to forget each.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from socket import AF_INET, AF_INET6

from runtime.errors import KernelFailure

_NETLINK_NETFILTER = 12
_CT_GET, _CT_DELETE = 1 << 8 | 1, 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_…
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP = 1, 4, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NESTED, _TYPE = 0x8000, 0x3FFF
_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY, _CTA_ID, _CTA_ZONE, _CTA_FILTER = 1, 2, 12, 18, 25
_CTA_TUPLE_IP, _CTA_TUPLE_PROTO = 1, 2
_CTA_IP_V4_SRC, _CTA_IP_V6_SRC = 1, 3
_CTA_PROTO_NUM, _CTA_PROTO_SRC_PORT, _CTA_PROTO_DST_PORT = 1, 2, 3
_FILTER_ORIG_FLAGS, _FILTER_REPLY_FLAGS = 1, 2
_BY_SOURCE, _BY_PROTOCOL, _BY_SOURCE_PORT, _BY_PORT = 1 << 0, 1 << 3, 1 << 4, 1 << 5

# Neither is worth a failure: no conntrack in the kernel, nothing that matches, a kernel that cannot.
_HARMLESS = {errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT}
_HEADER, _GENERAL = 16, 4  # bytes of struct nlmsghdr and struct nfgenmsg

# Part of a tuple (CTA_TUPLE_IP, CTA_TUPLE_PROTO) -> its attributes.
_Tuple = dict[int, dict[int, bytes]]


def forget_udp_to_port(host_port: int, *, ipv6: bool = False) -> None:
    """Drop UDP flows of one family that were begun towards `host_port`, on any address. Raises KernelFailure."""
    protocol = {
        _CTA_PROTO_NUM: bytes((socket.IPPROTO_UDP,)),
        _CTA_PROTO_DST_PORT: struct.pack("!H", host_port),
    }
    flags = _BY_PROTOCOL | _BY_PORT
    _forget(_CTA_TUPLE_ORIG, {_CTA_TUPLE_PROTO: protocol}, flags, ipv6=ipv6)


def forget_udp_from(address: str, port: int) -> None:
    """Drop UDP flows that `address`:`port` answers, translated ones too. Raises KernelFailure."""
    ipv6 = ":" in address
    family, kind = (AF_INET6, _CTA_IP_V6_SRC) if ipv6 else (AF_INET, _CTA_IP_V4_SRC)
    protocol = {
        _CTA_PROTO_NUM: bytes((socket.IPPROTO_UDP,)),
        _CTA_PROTO_SRC_PORT: struct.pack("!H", port),
    }
    wanted = {_CTA_TUPLE_IP: {kind: socket.inet_pton(family, address)}, _CTA_TUPLE_PROTO: protocol}
    flags = _BY_SOURCE | _BY_PROTOCOL | _BY_SOURCE_PORT
    _forget(_CTA_TUPLE_REPLY, wanted, flags, ipv6=ipv6)


def _forget(which: int, wanted: _Tuple, flags: int, *, ipv6: bool) -> None:
    original, reply = (flags, 0) if which == _CTA_TUPLE_ORIG else (0, flags)
    filter_ = _attribute(_FILTER_ORIG_FLAGS, struct.pack("=I", original)) + _attribute(
        _FILTER_REPLY_FLAGS, struct.pack("=I", reply)
    )
    parts = (_nested(p, b"".join(map(_attribute, v, v.values()))) for p, v in wanted.items())
    general = struct.pack("=BBH", AF_INET6 if ipv6 else AF_INET, 0, 0)  # struct nfgenmsg
    body = general + _nested(which, b"".join(parts)) + _nested(_CTA_FILTER, filter_)
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    try:
        with socket.socket(socket.AF_NETLINK, kind, _NETLINK_NETFILTER) as netlink:
            code = _delete(netlink, body)
            if code == errno.EINVAL:
                for flow in list(_flows(netlink, body, which, wanted)):
                    _delete(netlink, general + flow)  # it may have ended meanwhile
    except OSError as error:
        raise KernelFailure("conntrack", error.errno or 0) from error
    if code not in _HARMLESS | {0}:
        raise KernelFailure("conntrack", code)


def _delete(netlink: socket.socket, body: bytes) -> int:
    """The kernel's error, 0 for none."""
    netlink.send(_message(_CT_DELETE, _NLM_F_ACK, body))
    answer = netlink.recv(4096)
    return -_error(answer) if _kind(answer) == _NLMSG_ERROR else 0


def _flows(netlink: socket.socket, body: bytes, which: int, wanted: _Tuple) -> Iterator[bytes]:
    """What names each flow that has `wanted` in its tuple `which`: attributes for a delete request.

    The kernel filters what it lists (since Linux 5.8), but who deletes looks for himself.
    """
    netlink.send(_message(_CT_GET, _NLM_F_DUMP, body))
    while True:
        data = netlink.recv(1 << 16)
        while len(data) >= _HEADER:
            (length,) = struct.unpack_from("=I", data)
            if _kind(data) in (_NLMSG_DONE, _NLMSG_ERROR):
                return
            found = _attributes(data[_HEADER + _GENERAL : length])
            if _matches(found.get(which, b""), wanted):
                yield _nested(_CTA_TUPLE_ORIG, found[_CTA_TUPLE_ORIG]) + b"".join(
                    _attribute(kind, found[kind]) for kind in (_CTA_ID, _CTA_ZONE) if kind in found
                )
            data = data[max(_HEADER, (length + 3) & ~3) :]


def _matches(tuple_: bytes, wanted: _Tuple) -> bool:
    parts = _attributes(tuple_)
    return all(
        _attributes(parts.get(part, b"")).items() >= values.items()
        for part, values in wanted.items()
    )


def _message(kind: int, flags: int, body: bytes) -> bytes:
    length = _HEADER + len(body)
    return struct.pack("=IHHII", length, kind, _NLM_F_REQUEST | flags, 1, 0) + body


def _kind(message: bytes) -> int:
    return int(struct.unpack_from("=H", message, 4)[0])


def _error(message: bytes) -> int:
    return int(struct.unpack_from("=i", message, _HEADER)[0])


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        found[kind & _TYPE] = data[4:length]
        data = data[max(4, (length + 3) & ~3) :]
    return found


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + b"\0" * (-length % 4)


def _nested(kind: int, content: bytes) -> bytes:
    return _attribute(kind | _NESTED, content)
