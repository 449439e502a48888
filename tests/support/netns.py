"""Network namespaces for tests: a "host" of their own, containers and other machines beside it.

The calling thread moves between namespaces with setns(2); a socket stays in the one it was made in, so a
test talks from several machines in plain sequential code.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field

from pyroute2 import IPRoute

from runtime.kernel.constants import CLONE_NEWNET
from runtime.kernel.syscalls import setns, unshare
from tests.support.waiting import PATIENCE

TIMEOUT = 5.0 * PATIENCE  # seconds until a test calls an answer missing
SILENCE = (
    0.3 * PATIENCE
)  # seconds after which something that must not arrive counts as not arriving


@contextlib.contextmanager
def fresh_netns() -> Iterator[None]:
    """Run the block in a new, empty network namespace whose loopback is up."""
    with _returning():
        unshare(CLONE_NEWNET)
        with IPRoute() as netlink:
            netlink.link("set", index=1, state="up")
        yield


@contextlib.contextmanager
def _returning() -> Iterator[None]:
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        setns(before, CLONE_NEWNET)
        os.close(before)


@dataclass
class Machine:
    """A process that holds a network namespace, as a container's init does."""

    process: subprocess.Popen[bytes]
    sockets: list[socket.socket] = field(default_factory=list)

    @classmethod
    def start(cls) -> Machine:
        with fresh_netns():
            return cls(subprocess.Popen(["sleep", "600"]))

    @property
    def pid(self) -> int:
        return self.process.pid

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Run the block in this machine's network namespace."""
        with _returning():
            fd = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                setns(fd, CLONE_NEWNET)
            finally:
                os.close(fd)
            yield

    def configure(
        self, interface: str, address: str, prefix_length: int, gateway: str = ""
    ) -> None:
        """What a container's init does: the address, the interface up, the default route."""
        with self.inside(), IPRoute() as netlink:
            index = netlink.link_lookup(ifname=interface)[0]
            netlink.addr("add", index=index, address=address, prefixlen=prefix_length)
            netlink.link("set", index=index, state="up")
            if gateway:
                netlink.route("add", dst="default", gateway=gateway)

    def listen(self, port: int, address: str = "0.0.0.0") -> socket.socket:
        """A TCP server's socket."""
        with self.inside():
            server = socket.create_server((address, port))
        return self._keep(server)

    def bind_udp(self, port: int) -> socket.socket:
        with self.inside():
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("0.0.0.0", port))
        return self._keep(server)

    def _keep(self, made: socket.socket) -> socket.socket:
        made.settimeout(TIMEOUT)
        self.sockets.append(made)
        return made

    def stop(self) -> None:
        for one in self.sockets:
            one.close()
        self.process.kill()
        self.process.wait()


def exchange(server: socket.socket, address: str, port: int) -> str:
    """Connect to address:port from the current namespace and have `server` answer.

    Returns the client's address as the server sees it. Raises OSError when there is no way.
    """
    with socket.create_connection((address, port), timeout=TIMEOUT) as client:
        connection, peer = server.accept()
        with connection:
            connection.sendall(b"hello")
        client.settimeout(TIMEOUT)
        assert client.recv(16) == b"hello"
    return str(peer[0])


def reaches(address: str, port: int, within: float = SILENCE) -> bool:
    """Whether a TCP connection from the current namespace is accepted `within` seconds.

    Who expects it to be gives TIMEOUT: one lost packet is sent again after a second.
    """
    try:
        socket.create_connection((address, port), timeout=within).close()
    except OSError:
        return False
    return True


def exchange_udp(server: socket.socket, address: str, port: int) -> str:
    """Like `exchange`, with one datagram each way."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(TIMEOUT)
        client.connect((address, port))
        client.send(b"question")
        data, peer = server.recvfrom(64)
        assert data == b"question"
        server.sendto(b"answer", peer)
        assert client.recv(64) == b"answer"
    return str(peer[0])
