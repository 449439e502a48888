"""Interfaces of the container's own network namespace, in the few rtnetlink messages that takes.

Init configures them itself, and the process it is forked from must stay lean: importing pyroute2 costs
about 25 MB and 100 ms, so this is struct and socket only. The host's side of each container is in
`veth.py`; everything else there uses pyroute2 (`runtime.network`). Source: rtnetlink(7), netlink(7).
"""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING

from runtime.errors import NetlinkFailure

if TYPE_CHECKING:
    from runtime.model.plan import Interface

_RTM_NEWLINK, _RTM_NEWADDR, _RTM_NEWROUTE = 16, 20, 24
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_CREATE, _NLM_F_REPLACE = 0x1, 0x4, 0x400, 0x100
_NLMSG_ERROR = 2
_IFLA_ADDRESS, _IFLA_MTU = 1, 4
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFA_F_NODAD = 0x02
_RTA_OIF, _RTA_GATEWAY = 4, 5
_RT_TABLE_MAIN, _RTPROT_STATIC, _RT_SCOPE_UNIVERSE, _RTN_UNICAST = 254, 4, 0, 1
_IFF_UP = 1


class Rtnetlink:
    """A route socket in the namespace of the calling process. Use with `with`."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._sequence = 0

    def __enter__(self) -> Rtnetlink:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def set_up(self, interface: Interface, settings: int) -> None:
        """Addresses, link and default routes of one interface. May be repeated.

        `settings` is a directory /proc/sys that can be written to.
        """
        name, address6 = interface["name"], interface.get("address6")
        further = interface.get("link_local", ())
        six = bool(address6) or any(":" in address for address in further)
        _prepare_ipv6(settings, name, enabled=six)
        self.add_address(name, interface["address"], interface["prefix_length"])
        self.up(name)
        for address in further:
            # docker run --link-local-ip
            self.add_address(name, address, 64 if ":" in address else 16)
        if address6:
            self.add_address(name, address6, interface["prefix_length6"])
        self.add_default_routes(interface)

    def add_default_routes(self, interface: Interface) -> None:
        """Those that lead through it, in the place of others; none for an interface without a gateway."""
        for gateway in (interface["gateway"], interface.get("gateway6", "")):
            if gateway:
                self.add_default_route(interface["name"], gateway)

    def up(self, name: str, *, mac_address: str = "", mtu: int = 0) -> None:
        """Set the interface up, with this MAC address and MTU when given."""
        index = _index(name)
        attributes = b""
        if mac_address:
            attributes += attribute(_IFLA_ADDRESS, bytes.fromhex(mac_address.replace(":", "")))
        if mtu:
            attributes += attribute(_IFLA_MTU, struct.pack("=I", mtu))
        header = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, _IFF_UP, _IFF_UP)
        self._request(_RTM_NEWLINK, 0, header + attributes, f"set {name} up")

    def add_address(self, name: str, address: str, prefix_length: int) -> None:
        family, raw = _pack(address)
        flags = _IFA_F_NODAD if family == socket.AF_INET6 else 0
        header = struct.pack("=BBBBi", family, prefix_length, flags, 0, _index(name))
        attributes = attribute(_IFA_LOCAL, raw) + attribute(_IFA_ADDRESS, raw)
        flags = _NLM_F_CREATE | _NLM_F_REPLACE
        self._request(_RTM_NEWADDR, flags, header + attributes, f"add {address} to {name}")

    def add_default_route(self, name: str, gateway: str) -> None:
        family, raw = _pack(gateway)
        header = struct.pack(
            "=BBBBBBBBI",
            family, 0, 0, 0, _RT_TABLE_MAIN, _RTPROT_STATIC, _RT_SCOPE_UNIVERSE, _RTN_UNICAST, 0,
        )  # fmt: skip
        attributes = attribute(_RTA_GATEWAY, raw)
        attributes += attribute(_RTA_OIF, struct.pack("=i", _index(name)))
        flags = _NLM_F_CREATE | _NLM_F_REPLACE
        self._request(_RTM_NEWROUTE, flags, header + attributes, f"route by {gateway}")

    def _request(self, kind: int, flags: int, body: bytes, what: str) -> None:
        try:
            self.exchange(kind, flags, body)
        except OSError as error:
            raise NetlinkFailure(f"Cannot {what}: {error.strerror}.", errno=error.errno) from error

    def exchange(self, kind: int, flags: int, body: bytes) -> None:
        """Send one request and take its acknowledgement. Raises OSError with the kernel's errno."""
        self._sequence += 1
        flags |= _NLM_F_REQUEST | _NLM_F_ACK
        header = struct.pack("=IHHII", 16 + len(body), kind, flags, self._sequence, 0)
        self._socket.send(header + body)
        reply = self._socket.recv(4096)
        (answer,), (error,) = (
            struct.unpack_from("=H", reply, 4),
            struct.unpack_from("=i", reply, 16),
        )
        if answer == _NLMSG_ERROR and error:
            raise OSError(-error, os.strerror(-error))


def _index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError as error:
        raise NetlinkFailure(
            f"There is no interface {name} in the container.", name=name
        ) from error


def _prepare_ipv6(directory: int, name: str, *, enabled: bool) -> None:
    """Before it is up: addresses come from us alone and are good at once; without any there is no IPv6."""
    settings = (("disable_ipv6", "0"), ("accept_ra", "0"), ("accept_dad", "0"))
    for setting, value in settings if enabled else (("disable_ipv6", "1"),):
        try:
            flags = os.O_WRONLY | os.O_CLOEXEC
            fd = os.open(f"net/ipv6/conf/{name}/{setting}", flags, dir_fd=directory)
        except OSError:  # a kernel without IPv6; an address would be refused by name
            return
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)


def _pack(address: str) -> tuple[int, bytes]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.inet_pton(family, address)


def attribute(kind: int, value: bytes) -> bytes:
    """struct rtattr with its value, padded."""
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + b"\0" * (-length % 4)
