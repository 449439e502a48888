"""The resolver's sockets: UDP and TCP on every network's gateway, and what is answered there."""

from __future__ import annotations

import errno
import itertools
import os
import socket
import struct
import sys
from collections.abc import Callable

from runtime.errors import KernelFailure
from runtime.kernel.inotify import (
    IN_CREATE,
    IN_DELETE,
    IN_DELETE_SELF,
    IN_MOVED_TO,
    IN_ONLYDIR,
    Inotify,
)
from runtime.network.resolver import message as dns
from runtime.network.resolver.forwarder import Forwarder
from runtime.network.resolver.loop import READ, WRITE, Loop
from runtime.network.resolver.zones import NETWORK_FILE, Zone, Zones, owners_of, reversed_address

IP_FREEBIND = 15  # <linux/in.h>: bind before the bridge has the address
_OVERFLOW = 0x4000  # IN_Q_OVERFLOW: events were lost
_IGNORED = 0x8000  # IN_IGNORED: the watched directory is gone
RETRY = 5.0  # seconds until a port that is taken is tried again
AGAIN = 0.5  # seconds until what could not be read is read again
_GONE = (errno.ENOENT, errno.ENOTDIR)
_EVERYTHING = ""  # in place of a network's id
STREAM_LIMIT = 65535
MAX_STREAMS = 128
STREAM_IDLE = 10.0  # seconds

Send = Callable[[bytes], None]


class Server:
    """Serves the networks below the working directory's `directory`; see `run`."""

    def __init__(self, loop: Loop, directory: str, forwarder: Forwarder, *, port: int = 53) -> None:
        self._loop = loop
        self._directory = directory
        self._zones = Zones(directory)
        self._forwarder = forwarder
        self._port = port
        self._inotify = Inotify()
        self._watches: dict[int, str] = {}  # watch -> network id; "" for the directory itself
        self._sockets: dict[str, tuple[str, list[socket.socket]]] = {}  # network id -> gateway, …
        self._complained: set[str] = set()
        self._unread: set[str] = (
            set()
        )  # networks that could not be read: what is known of them stays
        self._turn = itertools.count()
        self.streams = 0

    def start(self) -> None:
        """Watch and read everything, bind. Raises KernelFailure when the directory is not there."""
        mask = IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_DELETE_SELF | IN_ONLYDIR
        self._watches[self._inotify.add(self._directory, mask)] = ""
        self._loop.watch(self._inotify, READ, self._facts_changed)
        self._read_all()
        self._retry()

    # -- facts --------------------------------------------------------------------------------

    def _read_all(self) -> None:
        try:
            found = os.listdir(self._directory)
        except OSError as error:
            self._read_later(_EVERYTHING, error)
            return
        for network_id in set(found) | set(self._zones.by_network):
            self._network_appeared(network_id)

    def _read_later(self, network_id: str, error: OSError | KernelFailure) -> None:
        say(f"cannot read the names of {network_id or 'all networks'}: {error}; trying on")
        if not self._unread:
            self._loop.after(AGAIN, self._read_again)
        self._unread.add(network_id)

    def _read_again(self) -> None:
        unread, self._unread = self._unread, set()
        if _EVERYTHING in unread:
            self._read_all()
            return
        for network_id in unread:
            self._network_appeared(network_id)

    def _network_appeared(self, network_id: str) -> None:
        """Watch first, then read: what is written in between is then seen twice, not never."""
        try:
            watch = self._inotify.add(
                f"{self._directory}/{network_id}", IN_MOVED_TO | IN_DELETE | IN_ONLYDIR
            )
            self._watches[watch] = network_id
        except KernelFailure as error:
            if error.errno not in _GONE:  # or no directory
                self._read_later(network_id, error)
        self._reload(network_id)

    def _reload(self, network_id: str) -> None:
        try:
            zone = self._zones.load_network(network_id)
        except OSError as error:
            self._read_later(network_id, error)
            return
        bound = self._sockets.get(network_id)
        if bound is not None and (zone is None or zone.gateway != bound[0]):
            for one in self._sockets.pop(network_id)[1]:
                self._loop.forget(one)
        if zone is not None:
            self._bind(zone)

    def _facts_changed(self) -> None:
        for watch, mask, name in self._inotify.read():
            if mask & _OVERFLOW:
                self._read_all()
                return
            network_id = self._watches.get(watch)
            if mask & _IGNORED:
                self._watches.pop(watch, None)
                continue
            if network_id is None:
                continue
            if network_id == "":
                if mask & IN_DELETE_SELF:
                    raise SystemExit("The directory of names is gone.")
                if name:
                    self._network_appeared(name)
            elif name == NETWORK_FILE:
                self._reload(network_id)
            else:
                self._reload_container(network_id, name)

    def _reload_container(self, network_id: str, file_name: str) -> None:
        try:
            self._zones.load_container(network_id, file_name)
        except OSError as error:
            self._read_later(network_id, error)

    # -- sockets ------------------------------------------------------------------------------

    def _bind(self, zone: Zone) -> None:
        if zone.network_id in self._sockets:
            return
        made: list[socket.socket] = []
        try:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                one = socket.socket(
                    socket.AF_INET, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
                )
                made.append(one)
                one.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
                if kind == socket.SOCK_STREAM:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.bind((zone.gateway, self._port))
            made[1].listen(64)
        except OSError as error:
            for one in made:
                one.close()
            if zone.network_id not in self._complained:
                self._complained.add(zone.network_id)
                say(f"cannot serve {zone.gateway} port {self._port}: {error.strerror}; trying on")
            return
        self._complained.discard(zone.network_id)
        datagrams, streams = made
        network_id = zone.network_id
        self._sockets[network_id] = (zone.gateway, made)
        self._loop.watch(datagrams, READ, lambda: self._datagrams(network_id, datagrams))
        self._loop.watch(streams, READ, lambda: self._streams(network_id, streams))

    def _retry(self) -> None:
        for zone in list(self._zones.by_network.values()):
            self._bind(zone)
        self._loop.after(RETRY, self._retry)

    def _datagrams(self, network_id: str, server: socket.socket) -> None:
        for _ in range(64):  # then let others have their turn
            try:
                data, client = server.recvfrom(4096)
            except OSError:  # nothing left, or an ICMP error about an earlier reply
                return

            def send(reply: bytes, client: tuple[str, int] = client) -> None:
                try:
                    server.sendto(reply, client)
                except OSError:  # the client has gone, or its network
                    pass

            self.serve(network_id, data, client[0], send, stream=False)

    def _streams(self, network_id: str, server: socket.socket) -> None:
        try:
            connection, client = server.accept()
        except BlockingIOError:
            return  # whoever it was has gone
        except OSError:
            # No descriptor or no memory for it: it waits, and we must not ask for it all the time.
            self._loop.pause(server, AGAIN)
            return
        if self.streams >= MAX_STREAMS:
            connection.close()
            return
        Stream(self, self._loop, network_id, connection, str(client[0]))

    # -- answers ------------------------------------------------------------------------------

    def serve(self, network_id: str, data: bytes, client: str, send: Send, *, stream: bool) -> None:
        """Answer the query `data` that `client` sent to the network's gateway, now or later, by `send`."""
        zone = self._zones.by_network.get(network_id)
        # A host that routes may hand us strangers' questions: not an open resolver.
        if zone is None or not zone.holds(client):
            return
        try:
            query = dns.parse(data)
        except dns.Malformed as error:
            if error.reply:
                send(error.reply)
            return
        limit = STREAM_LIMIT if stream else dns.UDP_SIZE
        zones = self._zones.around(zone, client)
        reply = self._own_answer(query, zones, limit)
        chosen = zone.servers_of(client)
        if reply is not None:
            send(reply)
        elif all(z.internal for z in zones) and not chosen:
            send(dns.error_reply(query, dns.NXDOMAIN))
        else:
            ours = {z.gateway for z in self._zones.by_network.values()}

            def done(found: bytes | None) -> None:
                send(dns.error_reply(query, dns.SERVFAIL) if found is None else found)

            self._forwarder.ask(data, stream=stream, ours=ours, done=done, chosen=chosen)

    def _own_answer(self, query: dns.Query, zones: list[Zone], limit: int) -> bytes | None:
        """The reply when the name is one of ours; None when others have to be asked."""
        if query.cls != dns.IN:
            return None
        if found := owners_of(query.name, zones):
            addresses = sorted(_addresses(*found, query.type))
            if not addresses:
                return dns.addresses_reply(query, [], limit=limit)
            first = next(self._turn) % len(addresses)  # several containers share the work
            return dns.addresses_reply(query, addresses[first:] + addresses[:first], limit=limit)
        address = reversed_address(query.name)
        if address is None:
            return None
        for zone in zones:
            if zone.holds(address):
                container = zone.containers.get(zone.by_address.get(address, ""))
                if container is None or not container.names:
                    return dns.error_reply(query, dns.NXDOMAIN)
                if query.type not in (dns.PTR, dns.ANY):
                    return dns.addresses_reply(query, [], limit=limit)
                return dns.name_reply(query, container.names[0], limit=limit)
        return None


def _addresses(zone: Zone, owners: dict[str, str], kind: int) -> list[str]:
    """What a question of this type asks for of the containers in `owners`; [] = no such data."""
    if kind in (dns.A, dns.ANY):
        return list(owners.values())
    if kind != dns.AAAA:
        return []
    found = (zone.containers[container_id].address6 for container_id in owners)
    return [address for address in found if address]


class Stream:
    """One TCP client: queries and replies with two bytes of length before each (RFC 7766)."""

    def __init__(
        self, server: Server, loop: Loop, network_id: str, connection: socket.socket, client: str
    ) -> None:
        self._server = server
        self._loop = loop
        self._network_id = network_id
        self._connection = connection
        self._client = client
        self._received = b""
        self._to_send = b""
        self._open = True
        connection.setblocking(False)
        server.streams += 1
        self._timer = loop.after(STREAM_IDLE, self._close)
        loop.watch(connection, READ, self._readable)

    def _readable(self) -> None:
        try:
            data = self._connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close()
            return
        self._timer.cancel()
        self._timer = self._loop.after(STREAM_IDLE, self._close)
        self._received += data
        while len(self._received) >= 2:
            (length,) = struct.unpack_from("!H", self._received)
            if len(self._received) < 2 + length:
                return
            query = self._received[2 : 2 + length]
            self._received = self._received[2 + length :]
            self._server.serve(self._network_id, query, self._client, self._send, stream=True)

    def _send(self, reply: bytes) -> None:
        if self._open:
            self._to_send += struct.pack("!H", len(reply)) + reply
            self._flush()

    def _flush(self) -> None:
        try:
            sent = self._connection.send(self._to_send)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close()
            return
        self._to_send = self._to_send[sent:]
        if self._to_send:  # the client is slow: its next query waits until this is out
            self._loop.watch(self._connection, WRITE, self._flush)
        else:
            self._loop.watch(self._connection, READ, self._readable)

    def _close(self) -> None:
        if self._open:
            self._open = False
            self._server.streams -= 1
            self._timer.cancel()
            self._loop.forget(self._connection)


def say(text: str) -> None:
    """One line for the log."""
    sys.stderr.write(f"resolver: {text}\n")
    sys.stderr.flush()
