"""Clients of a container's own process: its output to each of them, their input to it (`docker attach`).

The launcher has loaded it for every monitor, which so shares it, and never meets one of another version; what it needs
to know of a container is read when somebody attaches. Every client has a socket of its own, whose packets begin with a byte
that says what they are. To the client: 1 and 2 are output (the streams of runtime.store.logs), SKIPPED is how
many bytes of output it was too slow for, as text. From it: INPUT, END_OF_INPUT, and SIZE with a terminal's
rows and columns. The socket's buffer in the kernel bounds what a slow client costs, and the newest output that is
kept for it here: it skips what came between, so that it sees how things stand now.
"""

from __future__ import annotations

import json
import os
import select
import struct
import termios
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from runtime.errors import Conflict
from runtime.shim import sockets
from runtime.shim.starter import PLAN_FILE

if TYPE_CHECKING:
    from runtime.shim.control import Client
    from runtime.shim.life import Life

SKIPPED = 0
INPUT, END_OF_INPUT, SIZE = 0, 1, 2
PACKET = 1 << 16  # bytes at most, without the first
SIZES = struct.Struct("=HH")  # rows, columns
BUFFER = 1 << 20  # bytes that wait for one client in the kernel,
KEPT = 1 << 17  # and here, once that is full
_MOST = 64  # clients
_SO_SNDBUFFORCE = 32


class _Attached:
    """One client; `reads` is whether what it sends is for the process."""

    def __init__(self, control: Client, channel: sockets.Socket, *, reads: bool) -> None:
        self.control = control
        self.channel = channel
        self.reads = reads
        self.behind: list[bytes] = []  # packets that it has had no room for, the newest
        self._size = 0  # bytes of those
        self.skipped = 0  # bytes of output before those

    def send(self, packet: bytes) -> None:
        """Now, or when it has room, or never when it has none for long."""
        if not self.behind and self._offer(packet):
            return
        self.behind.append(packet)
        self._size += len(packet)
        while self._size > KEPT:
            gone = len(self.behind.pop(0))
            self._size -= gone
            self.skipped += gone - 1

    def catch_up(self) -> None:
        """As far as there is room."""
        if self.skipped:
            if not self._offer(b"%c%d" % (SKIPPED, self.skipped)):
                return
            self.skipped = 0
        while self.behind and self._offer(self.behind[0]):
            self._size -= len(self.behind.pop(0))

    @property
    def missed(self) -> int:
        """Bytes of output that it has not been sent."""
        return self.skipped + self._size - len(self.behind)

    def _offer(self, packet: bytes) -> bool:
        try:
            self.channel.send(packet)
        except BlockingIOError:
            return False
        except OSError:
            pass  # it has gone, as the loop will hear
        return True


class Attachments:
    """Those of one life. None of them can stall the container, or another one's output."""

    def __init__(self, life: Life, run_dir: str) -> None:
        self._life = life
        self._clients: dict[int, _Attached] = {}
        self._pending = b""  # input that the process has had no room for
        self._closing = False  # its input, when nothing is pending any more
        with open(f"{run_dir}/{PLAN_FILE}", "rb") as file:
            plan = json.loads(file.read())
        self._once = bool(plan.get("stdin_once")) and not plan["tty"]
        if life.input >= 0:
            os.set_blocking(life.input, False)

    def add(self, control: Client, *, reads: bool) -> None:
        """Answer with a socket; all output from now on goes there. Raises Conflict, OSError."""
        if len(self._clients) >= _MOST:
            raise Conflict(f"{_MOST} clients are attached already.", hint="Detach one of them.")
        reads = reads and self._life.input >= 0
        ours, theirs = sockets.pair(sockets.SOCK_SEQPACKET)
        ours.setsockopt(sockets.SOL_SOCKET, _SO_SNDBUFFORCE, BUFFER)
        ours.setblocking(False)
        told = {"tty": self._life.terminal >= 0, "stdin": reads, "since": time.time_ns()}
        try:
            control.answer_with(told, [theirs.fileno()])
        except OSError:
            ours.close()  # who asked has gone
            return
        finally:
            theirs.close()
        self._clients[ours.fileno()] = _Attached(control, ours, reads=reads)

    def end(self, result: dict[str, Any]) -> None:
        """The life is over: what was sent can still be read, then comes `result`."""
        for client in self._clients.values():
            client.catch_up()
            client.channel.close()
            client.control.answer({**result, "skipped": client.missed})
        self._clients = {}

    # -- for the monitor's loop -----------------------------------------------------------------

    def register(self, poller: select.poll) -> None:
        """What to wait for. While the process takes no input, none is read."""
        for fd, client in self._clients.items():
            wanted = 0 if self._pending else select.POLLIN
            poller.register(fd, wanted | (select.POLLOUT if client.behind else 0))
        if self._pending and (fd := self._life.input) >= 0:
            also = select.POLLIN if fd in self._life.outputs else 0
            poller.register(fd, select.POLLOUT | also)

    def ready(self, fd: int, events: int) -> None:
        """Something of a client's, or room for more input."""
        if self._pending:
            self._flush()
        client = self._clients.get(fd)
        if client is None:
            return
        if events & select.POLLOUT:
            client.catch_up()
        if events & select.POLLIN:
            if not self._pending:
                self._receive(client)
        elif events & (select.POLLHUP | select.POLLERR):
            self._drop(client)

    # -- output -----------------------------------------------------------------------------------

    def send(self, stream: int, data: bytes) -> None:
        """To everybody who has room for it."""
        packet = bytes((stream,)) + data
        for client in self._clients.values():
            client.send(packet)

    # -- input ------------------------------------------------------------------------------------

    def _receive(self, client: _Attached) -> None:
        try:
            packet = client.channel.recv(PACKET + 1)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            self._drop(client)
        elif not client.reads:
            pass
        elif packet[0] == INPUT:
            self._pending += packet[1:]
            self._flush()
        elif packet[0] == SIZE and len(packet) == 1 + SIZES.size:
            with suppress(Conflict, OSError):  # no terminal, or none any more
                resize(self._life, *SIZES.unpack(packet[1:]))
        elif packet[0] == END_OF_INPUT:
            self._end_input(client)

    def _end_input(self, client: _Attached) -> None:
        if client.reads:
            client.reads = False
            self._closing = self._once
            self._flush()

    def _drop(self, client: _Attached) -> None:
        del self._clients[client.channel.fileno()]
        client.channel.close()
        self._end_input(client)

    def _flush(self) -> None:
        fd = self._life.input
        try:
            while self._pending and fd >= 0:
                self._pending = self._pending[os.write(fd, self._pending) :]
        except BlockingIOError:
            return
        except OSError:
            pass  # it reads no more
        self._pending = b""
        if self._closing:
            self._life.close_input()


def resize(life: Life, rows: int, columns: int) -> None:
    """Give the container's terminal a size; the last one holds. Raises Conflict when it has none."""
    if life.terminal < 0:
        raise Conflict(
            "The container has no terminal to resize.", hint="Create it with a terminal (tty)."
        )
    termios.tcsetwinsize(life.terminal, (rows, columns))
