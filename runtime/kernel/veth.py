"""The host's end of a container's network in single rtnetlink messages: what each start and end takes.

pyroute2 makes the same messages in ten times the time; the runtime uses it for what is rare (bridges,
routes, lists). Source: rtnetlink(7), veth(4), include/uapi/linux/if_link.h.
"""

from __future__ import annotations

import socket
import struct
import threading
from dataclasses import dataclass

from runtime.kernel.rtnetlink import Rtnetlink, attribute

_RTM_NEWLINK, _RTM_DELLINK, _RTM_SETLINK = 16, 17, 19
_NLM_F_CREATE, _NLM_F_EXCL = 0x400, 0x200
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER = 1, 3, 4, 10
_IFLA_PROTINFO, _IFLA_LINKINFO, _IFLA_NET_NS_PID, _IFLA_NET_NS_FD = 12, 18, 19, 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA = 1, 2
_VETH_INFO_PEER = 1
_IFLA_BRPORT_MODE = 4
_NESTED = 0x8000
_IFF_UP = 1


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network namespace: that of the process `pid`, or the one behind the descriptor `fd`."""

    pid: int = 0
    fd: int = -1


class VethSocket(Rtnetlink):
    """A route socket of the namespace it was opened in. Thread-safe; every method raises OSError."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def close(self) -> None:
        self._socket.close()

    def add(
        self, name: str, *, bridge: int, peer: str, where: Namespace, peer_mac: str, mtu: int
    ) -> None:
        """Make a pair: `name` here, up and on the bridge with that index; `peer` in the network
        namespace `where`, down.
        """
        place = (_IFLA_NET_NS_PID, where.pid) if where.pid else (_IFLA_NET_NS_FD, where.fd)
        inside = (
            struct.pack("=BxHiII", socket.AF_UNSPEC, 0, 0, 0, 0)
            + _text(_IFLA_IFNAME, peer)
            + attribute(_IFLA_ADDRESS, bytes.fromhex(peer_mac.replace(":", "")))
            + _number(_IFLA_MTU, mtu)
            + _number(*place)
        )
        info = _text(_IFLA_INFO_KIND, "veth") + attribute(
            _IFLA_INFO_DATA | _NESTED, attribute(_VETH_INFO_PEER | _NESTED, inside)
        )
        body = (
            struct.pack("=BxHiII", socket.AF_UNSPEC, 0, 0, _IFF_UP, _IFF_UP)
            + _text(_IFLA_IFNAME, name)
            + _number(_IFLA_MTU, mtu)
            + _number(_IFLA_MASTER, bridge)
            + attribute(_IFLA_LINKINFO | _NESTED, info)
        )
        self._ask(_RTM_NEWLINK, _NLM_F_CREATE | _NLM_F_EXCL, body)

    def delete(self, index: int) -> None:
        """Delete an interface, a veth with its peer."""
        self._ask(_RTM_DELLINK, 0, struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, 0, 0))

    def set_hairpin(self, index: int) -> None:
        """Let frames leave a bridge through the port they came in by."""
        mode = attribute(_IFLA_BRPORT_MODE, b"\1")
        header = struct.pack("=BxHiII", socket.AF_BRIDGE, 0, index, 0, 0)
        self._ask(_RTM_SETLINK, 0, header + attribute(_IFLA_PROTINFO | _NESTED, mode))

    def _ask(self, kind: int, flags: int, body: bytes) -> None:
        with self._lock:
            self.exchange(kind, flags, body)


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))
