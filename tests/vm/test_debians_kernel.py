"""What Debian's kernel, or a Debian with little on it, does otherwise than the newest ones."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime.errors import PortInUse
from runtime.kernel.constants import CLONE_NEWNET
from runtime.kernel.syscalls import setns
from tests.support.engine import Instance, free_port
from tests.support.options import Seen, started
from tests.support.waiting import PATIENCE


def udp_inside(seen: Seen, port: int) -> socket.socket:
    """A socket of the container's network."""

    def bind() -> socket.socket:
        with Path(f"/proc/{seen.pid}/ns/net").open() as namespace:
            setns(namespace.fileno(), CLONE_NEWNET)
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(("0.0.0.0", port))
        return made

    # The thread ends there, in that namespace.
    with ThreadPoolExecutor(1) as thread:
        made = thread.submit(bind).result()
    made.settimeout(5 * PATIENCE)
    return made


def test_a_published_port_is_held_though_others_bind_with_reuse(instance: Instance) -> None:
    """Linux 6.1 goes by how a port was bound first."""
    seen = started(instance, on=instance.network(), ports=["80"])
    [port] = seen.spec.ports
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port.host_port))
    with pytest.raises(PortInUse):
        started(instance, on=instance.network(), ports=[f"{port.host_port}:80"])


def test_published_ports_are_known_without_names_of_protocols(instance: Instance) -> None:
    assert not Path("/etc/protocols").exists()
    seen = started(instance, on=instance.network(), ports=["80", "53/udp", "90/sctp"])
    found = [p for p in instance.engine.networks.published() if p.container_id == seen.spec.id]
    assert sorted(p.protocol for p in found) == ["sctp", "tcp", "udp"]


def test_a_udp_sender_follows_the_port_from_life_to_life(instance: Instance) -> None:
    """Linux 6.1 deletes no tracked flows by a filter."""
    port, network = free_port(), instance.network()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"nobody is there", ("127.0.0.1", port))
        for life in (b"first", b"second"):
            seen = started(instance, on=network, ports=[f"{port}:514/udp"])
            with udp_inside(seen, 514) as receiver:
                sender.sendto(life, ("127.0.0.1", port))
                assert receiver.recv(64) == life
            instance.engine.stop(seen.spec.id, timeout=0)
