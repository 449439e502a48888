"""Forwarding to the host's name servers, with servers of our own on loopback addresses."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import dns.message
import pytest

from runtime.network.resolver import forwarder as module
from runtime.network.resolver.forwarder import Forwarder, Upstreams
from runtime.network.resolver.loop import READ, Loop
from runtime.network.upstreams import system_nameservers

QUERY = dns.message.make_query("example.org", "A").to_wire()


class Fake:
    """A name server on `address`: answers what it gets, or stays silent."""

    def __init__(self, loop: Loop, address: str, port: int = 0, *, silent: bool = False) -> None:
        self.loop = loop
        self.silent = silent
        self.asked = 0
        self.streams, self.datagrams = _bind(address, port)
        self.port = self.streams.getsockname()[1]
        loop.watch(self.datagrams, READ, self._datagram)
        loop.watch(self.streams, READ, self._stream)

    def _datagram(self) -> None:
        data, client = self.datagrams.recvfrom(4096)
        self.asked += 1
        if not self.silent:
            self.datagrams.sendto(b"\xff" * 20, client)  # a stranger's guess comes first
            self.datagrams.sendto(self.answer(data), client)

    def _stream(self) -> None:
        connection, _ = self.streams.accept()
        # The client shares this loop: reading waits until it has sent.
        self.loop.watch(connection, READ, lambda: self._stream_query(connection))

    def _stream_query(self, connection: socket.socket) -> None:
        data = connection.recv(4096)
        assert struct.unpack_from("!H", data)[0] == len(data) - 2
        self.asked += 1
        reply = self.answer(data[2:])
        connection.sendall(struct.pack("!H", len(reply)) + reply)
        self.loop.forget(connection)

    @staticmethod
    def answer(data: bytes) -> bytes:
        return dns.message.make_response(dns.message.from_wire(data)).to_wire()

    def close(self) -> None:
        self.loop.forget(self.datagrams)
        self.loop.forget(self.streams)


def _bind(address: str, port: int) -> tuple[socket.socket, socket.socket]:
    """One port for streams and datagrams; without a `port`, one that both have free."""
    while True:
        streams = socket.create_server((address, port))
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            datagrams.bind(streams.getsockname())
        except OSError:
            streams.close()
            datagrams.close()
            if port:
                raise
        else:
            return streams, datagrams


class Bench:
    """A forwarder and its servers on one loop, run until a question is answered."""

    def __init__(self, tmp_path: Path) -> None:
        self.loop = Loop()
        self.resolv_conf = tmp_path / "resolv.conf"
        self.upstreams = Upstreams(self.resolv_conf)
        self.servers: list[Fake] = []
        self.port = 0

    def serve(self, address: str, *, silent: bool = False) -> Fake:
        server = Fake(self.loop, address, self.port, silent=silent)
        self.port = server.port
        self.servers.append(server)
        return server

    def configure(self, *addresses: str) -> None:
        self.resolv_conf.write_text("".join(f"nameserver {a}\n" for a in addresses))

    def ask(self, *, stream: bool = False, ours: frozenset[str] = frozenset()) -> bytes | None:
        replies: list[bytes | None] = []
        forwarder = Forwarder(self.loop, self.upstreams, port=self.port or 9)
        forwarder.ask(QUERY, stream=stream, ours=set(ours), done=replies.append)
        deadline = time.monotonic() + 10
        while not replies and time.monotonic() < deadline:
            self.loop.once(0.1)
        assert len(replies) == 1
        assert forwarder.pending == 0
        return replies[0]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    for server in made.servers:
        server.close()


@pytest.mark.parametrize("stream", [False, True], ids=["udp", "tcp"])
def test_the_reply_comes_back_under_the_clients_id(bench: Bench, stream: bool) -> None:
    bench.serve("127.0.0.1")
    bench.configure("127.0.0.1")
    reply = bench.ask(stream=stream)
    assert reply is not None
    assert dns.message.from_wire(QUERY).is_response(dns.message.from_wire(reply))


@pytest.mark.parametrize("stream", [False, True], ids=["udp", "tcp"])
def test_a_server_that_refuses_costs_no_time(bench: Bench, stream: bool) -> None:
    bench.serve("127.0.0.2")
    bench.configure("127.0.0.3", "127.0.0.2")
    begin = time.monotonic()
    assert bench.ask(stream=stream)
    assert time.monotonic() - begin < module.ATTEMPT / 2


def test_a_silent_server_is_left_for_the_next_which_is_then_asked_first(bench: Bench) -> None:
    silent = bench.serve("127.0.0.1", silent=True)
    good = bench.serve("127.0.0.2")
    bench.configure("127.0.0.1", "127.0.0.2")
    assert bench.ask()
    begin = time.monotonic()
    assert bench.ask()
    assert time.monotonic() - begin < module.ATTEMPT / 2
    assert (silent.asked, good.asked) == (1, 2)


def test_without_an_answer_it_gives_up_before_the_client_does(bench: Bench) -> None:
    bench.serve("127.0.0.1", silent=True)
    bench.configure("127.0.0.1")
    begin = time.monotonic()
    assert bench.ask() is None
    assert time.monotonic() - begin < 4.5


def test_nobody_to_ask_is_said_at_once(bench: Bench) -> None:
    assert bench.ask() is None
    bench.serve("127.0.0.1")
    bench.configure("127.0.0.1")
    assert bench.ask(ours=frozenset({"127.0.0.1"})) is None, "it must not ask itself"
    assert bench.ask(), "resolv.conf is read again when it changes"


def test_resolv_conf_is_read_as_the_c_library_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    assert system_nameservers(file) == []
    file.write_text(
        "# comment\nsearch example.org\nnameserver 192.0.2.1\nnameserver   fe80::1%eth0 x\n"
        "nameserver nonsense\nnameserver\n nameserver 2001:db8::1\n;nameserver 192.0.2.9\n"
    )
    assert system_nameservers(file) == ["192.0.2.1", "fe80::1%eth0", "2001:db8::1"]
