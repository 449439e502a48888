"""Published ports, held on the host without listening.

The kernel rewrites packets before they could reach these sockets: they only keep other programs from
taking a port that would never answer, and find those that have it already.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from runtime.errors import EngineError, PortInUse

if TYPE_CHECKING:
    from runtime.model.plan import HeldPort

_MOST = 200  # a message between processes carries at most 253 descriptors


def hold_ports(ports: list[HeldPort]) -> list[socket.socket]:
    """Bind every port. Raises PortInUse for the first that cannot be had."""
    held: list[socket.socket] = []
    for port in ports[:_MOST]:
        kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}.get(port["protocol"])
        if kind is None:
            continue
        address = port["host_ip"] or "0.0.0.0"
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        channel = socket.socket(family, kind | socket.SOCK_CLOEXEC)
        held.append(channel)
        try:
            if family == socket.AF_INET6:
                # [::] is all of IPv6 and nothing else: 0.0.0.0 may be another container's.
                channel.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            _bind(channel, address, port["host_port"])
        except OSError as error:
            for one in held:
                one.close()
            raise _port_error(port, address, error) from error
    return held


def _bind(channel: socket.socket, address: str, port: int) -> None:
    """Take the port alone; connections of a former owner in TIME_WAIT are no reason to refuse it."""
    try:
        # Whoever binds with SO_REUSEADDR first lets others with it bind, too, on kernels such as 6.1:
        # they do not look again when the first takes it back. So only where it is needed.
        channel.bind((address, port))
    except OSError as error:
        if error.errno != errno.EADDRINUSE or channel.type != socket.SOCK_STREAM:
            raise
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        channel.bind((address, port))
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)


def _port_error(port: HeldPort, address: str, error: OSError) -> EngineError:
    shown = f"[{address}]" if ":" in address else address
    where = f"{shown}:{port['host_port']}/{port['protocol']}"
    if error.errno == errno.EADDRINUSE:
        return PortInUse(
            f"Port {where} is taken by another program on this host.",
            hint="Choose another host port, or stop the program that listens there.",
            field="ports",
            port=port["host_port"],
        )
    return PortInUse(
        f"Port {where} cannot be published: {error.strerror}.",
        hint="The address must be one of this host's.",
        field="ports",
        port=port["host_port"],
    )
