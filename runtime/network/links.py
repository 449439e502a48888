"""Bridges and veths: changed through rtnetlink, asked about through ioctls where that suffices.

Sources: rtnetlink(7), netdevice(7), ip-link(8), veth(4).
"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

from runtime.errors import NetlinkFailure, NotFound
from runtime.kernel.veth import Namespace, VethSocket

if TYPE_CHECKING:
    from runtime.network.netlink import Netlink

T = TypeVar("T")
_IFF_UP = 0x1
_IFA_F_NODAD = 0x02
_MAIN_TABLE = 254
_RTPROT_KERNEL = 2
# What leads everywhere takes no subnet from anybody, also in halves (0.0.0.0/1), as VPNs write it; 2000::/3 is all
# of IPv6 that is in use.
_EVERYWHERE = {False: 1, True: 3}
_SIOCGIFNAME = 0x8910
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
    connected: bool = False  # of an address that the interface has itself


class Links:
    """The links of the network namespace this object was made in. Thread-safe; close it when done.

    Methods raise NetlinkFailure, with the operation, the interface and the errno's name.
    """

    def __init__(self) -> None:
        # For questions that an ioctl answers in microseconds; a socket stays in its own namespace.
        self._ioctl = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._veth = VethSocket()

    def close(self) -> None:
        self._ioctl.close()
        self._veth.close()
        if "_netlink" in self.__dict__:
            self._netlink.close()

    @cached_property
    def _netlink(self) -> Netlink:
        """Imported on first use: pyroute2 takes 20 MB and 0.15 s, and whoever only looks needs none of it."""
        from runtime.network.netlink import Netlink  # noqa: PLC0415 - see above

        return Netlink()

    def warm_up(self) -> None:
        """Import and open now what the first change would otherwise wait for."""
        _ = self._netlink

    # -- questions ----------------------------------------------------------------------------

    def exists(self, name: str) -> bool:
        """Whether there is an interface of this name. Takes microseconds."""
        try:
            self._index(name)
        except NotFound:
            return False
        return True

    def bridge_ready(self, name: str, gateway: str) -> bool:
        """Whether the interface `name` is up and has the address `gateway`. Takes microseconds."""
        request = struct.pack("16s24x", name.encode())
        try:
            flags = struct.unpack_from("=H", fcntl.ioctl(self._ioctl, _SIOCGIFFLAGS, request), 16)
            answer = fcntl.ioctl(self._ioctl, _SIOCGIFADDR, request)
        except OSError:  # no such interface, or no address on it
            return False
        return bool(flags[0] & _IFF_UP) and socket.inet_ntoa(answer[20:24]) == gateway

    def has_address6(self, name: str, address: str) -> bool:
        """Whether the interface has the IPv6 `address`, given in its shortest form."""
        wanted = socket.inet_pton(socket.AF_INET6, address).hex()
        try:
            with open("/proc/thread-self/net/if_inet6", encoding="ascii") as file:
                rows = (line.split() for line in file)
                return any(row[0] == wanted and row[-1] == name for row in rows)
        except FileNotFoundError:
            return False

    def ports_of_bridge(self, name: str) -> list[str]:
        """Names of the interfaces attached to the bridge; [] when there is no such bridge."""
        if not self.exists(name):
            return []
        index = self._index(name)
        links = self._do("list ports of", name, lambda n: list(n.get_links()))
        return [
            link.get_attr("IFLA_IFNAME") for link in links if link.get_attr("IFLA_MASTER") == index
        ]

    def peer_index(self, name: str) -> int:
        """Index of the other end of the veth, in the namespace that this is in; 0 when there is no such veth."""
        found = self._unless(
            errno.ENODEV, "look at", name, lambda n: list(n.link("get", ifname=name))
        )
        return int(found[0].get_attr("IFLA_LINK") or 0) if found else 0

    def counters(self, name: str) -> LinkCounters | None:
        """Traffic of the container at the other end of the veth; None when there is no such veth."""
        found = self._unless(
            errno.ENODEV, "read counters of", name, lambda n: list(n.link("get", ifname=name))
        )
        if not found:
            return None
        stats = found[0].get_attr("IFLA_STATS64")
        return LinkCounters(
            rx_bytes=stats["tx_bytes"],
            tx_bytes=stats["rx_bytes"],
            rx_packets=stats["tx_packets"],
            tx_packets=stats["rx_packets"],
        )

    def routes(self, *, ipv6: bool = False) -> list[Route]:
        """Routes of one family in the main table; default routes, halves of them too, and link-local ones are left out."""
        family = socket.AF_INET6 if ipv6 else socket.AF_INET
        found = self._do(
            "list routes", "", lambda n: list(n.get_routes(family=family, table=_MAIN_TABLE))
        )
        return [
            Route(
                destination=f"{destination}/{route['dst_len']}",
                interface=self._name(route.get_attr("RTA_OIF")),
                connected=route["proto"] == _RTPROT_KERNEL,
            )
            for route in found
            if (destination := route.get_attr("RTA_DST")) is not None
            and route["dst_len"] > _EVERYWHERE[ipv6]
            and not (ipv6 and destination.startswith(("fe80:", "ff")))
        ]

    # -- changes ------------------------------------------------------------------------------

    def create_bridge(self, name: str, *, mac: str, mtu: int) -> bool:
        """Make the bridge, down. Returns False when it was there already.

        A MAC of its own: without one the bridge would take its lowest port's, and change it as
        containers come and go.
        """
        settings = {"kind": "bridge", "address": mac, "mtu": mtu, "br_forward_delay": 0}
        made = self._unless(
            errno.EEXIST, "create bridge", name, lambda n: n.link("add", ifname=name, **settings)
        )
        return made is not None

    def configure_bridge(self, name: str, *, gateway: str, prefix_length: int, mtu: int) -> None:
        """Give the bridge its address and bring it up. What is so already stays."""
        index = self._index(name)
        self._unless(
            errno.EEXIST,
            "give an address to",
            name,
            lambda n: n.addr("add", index=index, address=gateway, prefixlen=prefix_length),
        )
        self._do("bring up", name, lambda n: n.link("set", index=index, state="up", mtu=mtu))

    def add_addresses6(self, name: str, *addresses: tuple[str, int]) -> None:
        """Give an interface IPv6 addresses with their prefix lengths, good at once. What is there stays."""
        index = self._index(name)
        for address, prefix_length in addresses:
            self._unless(
                errno.EEXIST,
                "give an IPv6 address to",
                name,
                partial(_add_address6, index=index, address=address, prefix_length=prefix_length),
            )

    def create_veth(
        self,
        name: str,
        *,
        bridge: str,
        peer: str,
        where: Namespace,
        peer_mac: str,
        mtu: int,
        hairpin: bool,
    ) -> None:
        """Make a pair: `name` here, up and on `bridge`; `peer` in the network namespace `where`.

        One netlink message does it all, but for `hairpin`: that frames may leave the bridge through
        the port they came in by. A leftover of the same name is replaced.
        """
        about = {"bridge": bridge, "pid": where.pid}
        if self.exists(name):
            self.delete(name)
        try:
            self._veth.add(
                name,
                bridge=self._index(bridge),
                peer=peer,
                where=where,
                peer_mac=peer_mac,
                mtu=mtu,
            )
            if hairpin:
                self._veth.set_hairpin(self._index(name))
        except OSError as error:
            raise _failure("create veth", name, error.errno or 0, **about) from error

    def delete(self, name: str) -> None:
        """Delete the interface, a veth with its peer; none of that name is no error."""
        try:
            index = self._index(name)
        except NotFound:
            return
        try:
            self._veth.delete(index)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise _failure("delete", name, error.errno or 0) from error

    # -- inner --------------------------------------------------------------------------------

    def _index(self, name: str) -> int:
        request = struct.pack("16s24x", name.encode())
        try:
            answer = fcntl.ioctl(self._ioctl, _SIOCGIFINDEX, request)
        except OSError:
            raise NotFound(f"There is no interface {name}.", interface=name) from None
        return int(struct.unpack_from("=i", answer, 16)[0])

    def _name(self, index: int | None) -> str:
        """Of the interface of that index, "" when there is none."""
        if index is None:
            return ""
        try:
            answer = fcntl.ioctl(self._ioctl, _SIOCGIFNAME, struct.pack("=16xi20x", index))
        except OSError:
            return ""
        return answer[:16].partition(b"\0")[0].decode()

    def _do(
        self,
        operation: str,
        name: str,
        action: Callable[[Any], T],
        **extra: Any,
    ) -> T:
        """Run `action` on the IPRoute. Raises NetlinkFailure."""
        try:
            return self._netlink.run(action)
        except OSError as error:
            raise _failure(operation, name, error.errno or 0, **extra) from error

    def _unless(
        self, number: int, operation: str, name: str, action: Callable[[Any], T]
    ) -> T | None:
        """Like `_do`; None when the kernel answers with the errno `number`."""
        try:
            return self._do(operation, name, action)
        except NetlinkFailure as error:
            if error.extra["errno"] == errno.errorcode[number]:
                return None
            raise


def _add_address6(netlink: Any, *, index: int, address: str, prefix_length: int) -> Any:
    return netlink.addr(
        "add",
        index=index,
        family=socket.AF_INET6,
        address=address,
        prefixlen=prefix_length,
        flags=_IFA_F_NODAD,
    )


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
