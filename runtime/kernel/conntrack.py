"""Forgetting tracked connections: one netlink message with a filter, whatever the table's size.

Sources: include/uapi/linux/netfilter/nfnetlink_conntrack.h and net/netfilter/nf_conntrack_netlink.c; a
delete request with CTA_FILTER removes what the filter matches. A kernel that does not know the filter
takes the incomplete tuple for one connection's and refuses, so nothing else is ever removed.
"""

from __future__ import annotations

import errno
import socket
import struct
from socket import AF_INET, AF_INET6

from runtime.errors import KernelFailure

_NETLINK_NETFILTER = 12
_CT_DELETE = 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE
_NLM_F_REQUEST, _NLM_F_ACK = 1, 4
_NLMSG_ERROR = 2
_NESTED = 0x8000
_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY, _CTA_FILTER = 1, 2, 25
_CTA_TUPLE_IP, _CTA_TUPLE_PROTO = 1, 2
_CTA_IP_V4_SRC, _CTA_IP_V6_SRC = 1, 3
_CTA_PROTO_NUM, _CTA_PROTO_SRC_PORT, _CTA_PROTO_DST_PORT = 1, 2, 3
_FILTER_ORIG_FLAGS, _FILTER_REPLY_FLAGS = 1, 2
_BY_SOURCE, _BY_PROTOCOL, _BY_SOURCE_PORT, _BY_PORT = 1 << 0, 1 << 3, 1 << 4, 1 << 5

# Neither is worth a failure: no conntrack in the kernel, nothing that matches, a kernel without filters.
_HARMLESS = {errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT}


def forget_udp_to_port(host_port: int, *, ipv6: bool = False) -> None:
    """Drop UDP flows of one family that were begun towards `host_port`, on any address. Raises KernelFailure."""
    protocol = _attribute(_CTA_PROTO_NUM, bytes((socket.IPPROTO_UDP,)))
    port = _attribute(_CTA_PROTO_DST_PORT, struct.pack("!H", host_port))
    tuple_ = _nested(_CTA_TUPLE_PROTO, protocol + port)
    _delete(_CTA_TUPLE_ORIG, tuple_, _BY_PROTOCOL | _BY_PORT, ipv6=ipv6)


def forget_udp_from(address: str, port: int) -> None:
    """Drop UDP flows that `address`:`port` answers, translated ones too. Raises KernelFailure."""
    ipv6 = ":" in address
    family, kind = (AF_INET6, _CTA_IP_V6_SRC) if ipv6 else (AF_INET, _CTA_IP_V4_SRC)
    source = _attribute(kind, socket.inet_pton(family, address))
    protocol = _attribute(_CTA_PROTO_NUM, bytes((socket.IPPROTO_UDP,)))
    source_port = _attribute(_CTA_PROTO_SRC_PORT, struct.pack("!H", port))
    tuple_ = _nested(_CTA_TUPLE_IP, source) + _nested(_CTA_TUPLE_PROTO, protocol + source_port)
    _delete(_CTA_TUPLE_REPLY, tuple_, _BY_SOURCE | _BY_PROTOCOL | _BY_SOURCE_PORT, ipv6=ipv6)


def _delete(which: int, tuple_: bytes, flags: int, *, ipv6: bool) -> None:
    original, reply = (flags, 0) if which == _CTA_TUPLE_ORIG else (0, flags)
    filter_ = _attribute(_FILTER_ORIG_FLAGS, struct.pack("=I", original)) + _attribute(
        _FILTER_REPLY_FLAGS, struct.pack("=I", reply)
    )
    body = struct.pack("=BBH", AF_INET6 if ipv6 else AF_INET, 0, 0)  # struct nfgenmsg
    body += _nested(which, tuple_) + _nested(_CTA_FILTER, filter_)
    head = struct.pack("=IHHII", 16 + len(body), _CT_DELETE, _NLM_F_REQUEST | _NLM_F_ACK, 1, 0)
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    try:
        with socket.socket(socket.AF_NETLINK, kind, _NETLINK_NETFILTER) as netlink:
            netlink.send(head + body)
            answer = netlink.recv(4096)
    except OSError as error:
        raise KernelFailure("conntrack", error.errno or 0) from error
    (message,) = struct.unpack_from("=H", answer, 4)
    (code,) = struct.unpack_from("=i", answer, 16)
    if message == _NLMSG_ERROR and code and -code not in _HARMLESS:
        raise KernelFailure("conntrack", -code)


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + b"\0" * (-length % 4)


def _nested(kind: int, content: bytes) -> bytes:
    return _attribute(kind | _NESTED, content)
