"""Bridges and veths through rtnetlink: one open IPRoute, reused, one lock around it.

Sources: rtnetlink(7), ip-link(8), veth(4). Opening a socket per call would cost more than the call.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from runtime.errors import NetlinkFailure, NotFound

_IFF_UP = 0x1
_MAIN_TABLE = 254
_SIOCGIFFLAGS = 0x8913
_SIOCGIFADDR = 0x8915
_SIOCGIFINDEX = 0x8933


@dataclass(frozen=True, slots=True)
class LinkCounters:
    """What a container received and sent through one endpoint since it was attached."""

    rx_bytes: int
    tx_bytes: int
    rx_packets: int
    tx_packets: int


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the host to a subnet: `destination` "172.30.0.0/22" by way of `interface`."""

    destination: str
    interface: str


class Links:
    """The links of the network namespace this object was made in. Thread-safe; close it when done.

    Every method raises NetlinkFailure, with the operation, the interface and the errno's name.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._netlink: Any = IPRoute()
        # For questions that an ioctl answers in microseconds; a socket stays in its own namespace.
        self._ioctl = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def close(self) -> None:
        with self._lock:
            self._netlink.close()
            self._ioctl.close()

    # -- bridges ------------------------------------------------------------------------------

    def bridge_ready(self, name: str, gateway: str) -> bool:
        """Whether the interface `name` is up and has the address `gateway`. Takes microseconds."""
        request = struct.pack("16s24x", name.encode())
        try:
            flags = struct.unpack_from("=H", fcntl.ioctl(self._ioctl, _SIOCGIFFLAGS, request), 16)[
                0
            ]
            answer = fcntl.ioctl(self._ioctl, _SIOCGIFADDR, request)
        except OSError:  # no such interface, or no address on it
            return False
        return bool(flags & _IFF_UP) and socket.inet_ntoa(answer[20:24]) == gateway

    def create_bridge(self, name: str, *, mac: str, mtu: int) -> bool:
        """Make the bridge, down. Returns False when it was there already.

        A MAC of its own: without one the bridge would take its lowest port's, and change it as
        containers come and go.
        """
        with self._context("create bridge", name), self._lock:
            try:
                self._netlink.link(
                    "add", ifname=name, kind="bridge", address=mac, mtu=mtu, br_forward_delay=0
                )
            except NetlinkError as error:
                if error.code != errno.EEXIST:
                    raise
                return False
        return True

    def configure_bridge(self, name: str, *, gateway: str, prefix_length: int, mtu: int) -> None:
        """Give the bridge its address and bring it up. What is so already stays."""
        with self._context("configure bridge", name), self._lock:
            index = self._index(name)
            try:
                self._netlink.addr("add", index=index, address=gateway, prefixlen=prefix_length)
            except NetlinkError as error:
                if error.code != errno.EEXIST:
                    raise
            self._netlink.link("set", index=index, state="up", mtu=mtu)

    def ports_of_bridge(self, name: str) -> list[str]:
        """Names of the interfaces attached to the bridge; [] when there is no such bridge."""
        with self._context("list ports", name), self._lock:
            try:
                index = self._index(name)
            except NotFound:
                return []
            return [
                link.get_attr("IFLA_IFNAME")
                for link in self._netlink.get_links()
                if link.get_attr("IFLA_MASTER") == index
            ]

    # -- endpoints ----------------------------------------------------------------------------

    def create_veth(
        self,
        name: str,
        *,
        bridge: str,
        peer: str,
        peer_pid: int,
        peer_mac: str,
        mtu: int,
        hairpin: bool,
    ) -> None:
        """Make a pair: `name` here, up and on `bridge`; `peer` in the network namespace of `peer_pid`.

        One netlink message does it all, but for `hairpin`: that frames may leave the bridge through
        the port they came in by. A leftover of the same name is replaced.
        """
        with self._context("create veth", name, bridge=bridge, pid=peer_pid), self._lock:
            # The bridge's number may be another one since somebody removed and made it again.
            master = self._index(bridge)
            pair = {
                "ifname": name,
                "kind": "veth",
                "mtu": mtu,
                "master": master,
                "flags": _IFF_UP,
                "change": _IFF_UP,
                "peer": {
                    "ifname": peer,
                    "address": peer_mac,
                    "mtu": mtu,
                    "net_ns_pid": peer_pid,
                },
            }
            try:
                self._netlink.link("add", **pair)
            except NetlinkError as error:
                if error.code != errno.EEXIST:
                    raise
                self._delete(name)
                self._netlink.link("add", **pair)
            if hairpin:
                self._netlink.brport("set", index=self._index(name), mode=1)

    def exists(self, name: str) -> bool:
        """Whether there is an interface of this name. Takes microseconds."""
        try:
            self._index(name)
        except NotFound:
            return False
        return True

    def delete(self, name: str) -> None:
        """Delete the interface, a veth with its peer; none of that name is no error."""
        with self._context("delete", name), self._lock:
            self._delete(name)

    def counters(self, name: str) -> LinkCounters | None:
        """Traffic of the container at the other end of the veth; None when there is no such veth."""
        with self._context("read counters", name), self._lock:
            try:
                link = next(iter(self._netlink.link("get", ifname=name)))
            except NetlinkError as error:
                if error.code == errno.ENODEV:
                    return None
                raise
        stats = link.get_attr("IFLA_STATS64")
        return LinkCounters(
            rx_bytes=stats["tx_bytes"],
            tx_bytes=stats["rx_bytes"],
            rx_packets=stats["tx_packets"],
            tx_packets=stats["rx_packets"],
        )

    # -- routes -------------------------------------------------------------------------------

    def routes(self) -> list[Route]:
        """IPv4 routes of the main table, the default routes left out."""
        with self._context("list routes", ""), self._lock:
            names = {
                link["index"]: link.get_attr("IFLA_IFNAME") for link in self._netlink.get_links()
            }
            found = list(self._netlink.get_routes(family=socket.AF_INET, table=_MAIN_TABLE))
        routes = []
        for route in found:
            destination = route.get_attr("RTA_DST")
            if destination is None:
                continue
            interface = names.get(route.get_attr("RTA_OIF"), "")
            routes.append(Route(f"{destination}/{route['dst_len']}", interface))
        return routes

    # -- inner --------------------------------------------------------------------------------

    def _index(self, name: str) -> int:
        request = struct.pack("16s24x", name.encode())
        try:
            answer = fcntl.ioctl(self._ioctl, _SIOCGIFINDEX, request)
        except OSError:
            raise NotFound(f"There is no interface {name}.", interface=name) from None
        return int(struct.unpack_from("=i", answer, 16)[0])

    def _delete(self, name: str) -> None:
        try:
            self._netlink.link("del", index=self._index(name))
        except NotFound:
            return
        except NetlinkError as error:
            if error.code != errno.ENODEV:
                raise

    @contextlib.contextmanager
    def _context(self, operation: str, name: str, **extra: Any) -> Iterator[None]:
        """Turn pyroute2's errors into ours, named after what was done to which interface."""
        try:
            yield
        except NetlinkError as error:
            raise _failure(operation, name, error.code, **extra) from error
        except OSError as error:
            raise _failure(operation, name, error.errno or 0, **extra) from error


def _failure(operation: str, name: str, code: int, **extra: Any) -> NetlinkFailure:
    number = errno.errorcode.get(code, str(code))
    hints = {
        "EPERM": "Changing networks takes root with CAP_NET_ADMIN.",
        "EXFULL": "A bridge takes at most 1,023 containers: use another network as well.",
        "EOPNOTSUPP": "The kernel lacks the bridge or veth driver.",
    }
    about = f" {name}" if name else ""
    return NetlinkFailure(
        f"Network: cannot {operation}{about} ({number}).",
        hint=hints.get(number, ""),
        operation=operation,
        interface=name,
        errno=number,
        **extra,
    )
