"""Fork the container's init with its stdio, in its network and pid namespaces."""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import socket

from runtime.errors import EngineError, InitFailed, KernelFailure, PortInUse, from_payload
from runtime.kernel import constants as c
from runtime.kernel import syscalls
from runtime.model.plan import HeldPort, Plan
from runtime.shim.init import run_init

START_TIMEOUT = 120.0  # seconds from fork to exec; mounts on a loaded host may take long


class Child:
    """One life of init: its pid and the shim's ends of its descriptors."""

    def __init__(self, pid: int, pidfd: int, outputs: dict[int, int], stdin: int) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.outputs = outputs  # descriptor -> stream of runtime.store.logs
        self.stdin = stdin
        self.go = -1
        self.status = -1
        self.terminal: socket.socket | None = None

    def signal(self, number: int) -> None:
        """Raises ProcessLookupError when it is gone; never meets another process of the same pid."""
        signal.pidfd_send_signal(self.pidfd, number)

    def release(self) -> None:
        """Let init go on: the network is there."""
        if self.go >= 0:
            os.write(self.go, b"g")
            os.close(self.go)
            self.go = -1

    def executed(self) -> EngineError | None:
        """Wait until the command runs (None) or init has failed (its error)."""
        data = b""
        poller = select.poll()
        poller.register(self.status, select.POLLIN)
        while poller.poll(int(START_TIMEOUT * 1000)):
            chunk = os.read(self.status, 65536)
            if not chunk:
                break
            data += chunk
        else:
            return InitFailed("init", f"The container did not start in {START_TIMEOUT:.0f} s.")
        os.close(self.status)
        self.status = -1
        if data:
            return from_payload(json.loads(data))
        return None

    def receive_terminal(self) -> int:
        """The master side of the container's pty, or -1 when init died before it sent one."""
        if self.terminal is None:
            return -1
        _, fds, _, _ = socket.recv_fds(self.terminal, 1, 1)
        self.terminal.close()
        self.terminal = None
        return fds[0] if fds else -1

    def close(self) -> None:
        for fd in (self.pidfd, self.stdin, self.go, self.status, *self.outputs):
            if fd >= 0:
                os.close(fd)
        self.pidfd = self.stdin = self.go = self.status = -1
        self.outputs = {}
        if self.terminal is not None:
            self.terminal.close()
            self.terminal = None


class Namespaces:
    """The shim's own namespaces, to return to, and the container's network, kept through restarts."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._host_net = _open_namespace("net")
        self._host_pid = _open_namespace("pid")
        self._net = -1
        mode = plan["namespaces"]["network"]
        if mode == "own":
            syscalls.unshare(c.CLONE_NEWNET)
            self._net = _open_namespace("net")
            syscalls.setns(self._host_net, c.CLONE_NEWNET)
        elif mode.startswith("pid:"):
            self._net = _open_namespace("net", mode.removeprefix("pid:"))

    def fork(self) -> int:
        """os.fork() with the child in the container's network and a pid namespace of its own."""
        mode = self._plan["namespaces"]["pid"]
        try:
            if self._net >= 0:
                syscalls.setns(self._net, c.CLONE_NEWNET)
            if mode == "own":
                syscalls.unshare(c.CLONE_NEWPID)
            elif mode.startswith("pid:"):
                fd = _open_namespace("pid", mode.removeprefix("pid:"))
                syscalls.setns(fd, c.CLONE_NEWPID)
                os.close(fd)
            pid = os.fork()
        except OSError as error:
            raise KernelFailure("fork", error.errno or 0) from error
        if pid:
            syscalls.setns(self._host_net, c.CLONE_NEWNET)
            # Only from its own can a process leave for a new one again, at the next restart.
            syscalls.setns(self._host_pid, c.CLONE_NEWPID)
        return pid


def _open_namespace(kind: str, pid: str = "self") -> int:
    return os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)


def spawn(plan: Plan, namespaces: Namespaces, *, first: bool) -> Child:
    """Fork init, which waits for `Child.release()` when the plan waits for the network."""
    status_read, status_write = os.pipe2(os.O_CLOEXEC)
    go_read, go_write = os.pipe2(os.O_CLOEXEC)
    pipes: dict[int, int] = {}
    ends: list[int] = []
    terminal = other = None
    stdin_read = stdin_write = -1
    if plan["tty"]:
        terminal, other = socket.socketpair()
    else:
        for stream in (1, 2):
            read, write = os.pipe2(os.O_CLOEXEC)
            pipes[read] = stream
            ends.append(write)
        if plan["stdin"]:
            stdin_read, stdin_write = os.pipe2(os.O_CLOEXEC)
    pid = namespaces.fork()
    if pid == 0:
        os.close(go_write)
        _take_stdio(stdin_read, ends)
        sender = -1 if other is None else other.fileno()
        run_init(plan, go=go_read, status=status_write, terminal=sender, configure_network=first)
    for fd in (status_write, go_read, stdin_read, *ends):
        if fd >= 0:
            os.close(fd)
    if other is not None:
        other.close()
    for fd in pipes:
        os.set_blocking(fd, False)
    child = Child(pid, os.pidfd_open(pid), pipes, stdin_write)
    child.go, child.status, child.terminal = go_write, status_read, terminal
    if not plan["wait_for_network"] or not first:
        child.release()
    return child


def _take_stdio(stdin: int, outputs: list[int]) -> None:
    """Put the pipes in place; with a terminal the three come later."""
    if stdin < 0:
        stdin = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(stdin, 0)
    for standard, fd in zip((1, 2), outputs, strict=False):
        os.dup2(fd, standard)


def hold_ports(ports: list[HeldPort]) -> list[socket.socket]:
    """Bind the published ports on the host, without listening. Raises PortInUse.

    The kernel rewrites packets before they could reach these sockets: they only keep other programs
    from taking a port that would never answer, and find those that have it already.
    """
    held: list[socket.socket] = []
    for port in ports:
        kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}.get(port["protocol"])
        if kind is None:
            continue
        address = port["host_ip"] or "0.0.0.0"
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        channel = socket.socket(family, kind | socket.SOCK_CLOEXEC)
        try:
            if kind == socket.SOCK_STREAM:
                # Connections in TIME_WAIT are no reason to refuse …
                channel.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            channel.bind((address, port["host_port"]))
            # … but nobody may share the port with us from now on.
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        except OSError as error:
            channel.close()
            for other in held:
                other.close()
            raise _port_error(port, address, error) from error
        held.append(channel)
    return held


def _port_error(port: HeldPort, address: str, error: OSError) -> EngineError:
    where = f"{address}:{port['host_port']}/{port['protocol']}"
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
