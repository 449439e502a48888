"""One virtual machine that runs a list of tests: qemu with software emulation, so that it runs anywhere."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.vm import image
from tests.support.vm.protocol import ALIVE, ARGUMENTS, PORT

MEMORY = "2048M"
PROCESSORS = "2"
_CONSOLE_LINES = 60
_TICKS = os.sysconf("SC_CLK_TCK")
_DISKS = {"swap": "256M", "scratch": "128M"}
# A processor that is stuck for twice watchdog_thresh, in seconds of the host, ends the guest.
_KERNEL = (
    "console=ttyS0 panic=-1 oops=panic mitigations=off nokaslr random.trust_cpu=on "
    "loglevel=4 psi=1 swapaccount=1 softlockup_panic=1 watchdog_thresh=30"
)
_STUCK = "Kernel panic - not syncing: softlockup"
# One thread for all emulated processors: with one for each, the guest's kernel hung at times.
_EMULATION = "tcg,thread=single,tb-size=512"

# The guest gives a sign of life each second. On a loaded host a second may be long for it: what
# counts is how long it computed without one. One that waits forever does not compute.
_SILENT_COMPUTING = 20.0  # seconds of a processor
_BOOTING = 120.0  # the same until the first sign of life, which takes 6 s here
_SILENT = 180.0  # seconds


class MachineDied(Exception):
    """The guest panicked or could not be started; the message holds the end of its console."""


class MachineHung(MachineDied):
    """It gives no sign of life, or a processor of it is stuck in its kernel."""


class Machine:
    """Messages come from `receive` until the guest has run every test."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="vm-tests-", dir="/tmp")
        self._work = Path(self._directory.name)
        self._console = self._work / "console"
        self._arguments = list(arguments)
        self._buffer = b""
        self._qemu: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._alive: socket.socket | None = None
        self._heard = (0.0, 0.0)  # the last sign of life: when, and how long it had computed
        self._most = _BOOTING  # how long it may compute without one

    def start(self) -> None:
        """Raises MachineDied when its disks cannot be made."""
        try:
            made = image.base()
            image.checkout(self._work / "checkout", {ARGUMENTS: json.dumps(self._arguments)})
        except (AssertionError, OSError, subprocess.CalledProcessError) as error:
            raise MachineDied(f"The machine's disks could not be made: {error}") from error
        for name, size in _DISKS.items():
            with (self._work / name).open("wb") as file:
                file.truncate(_bytes(size))
        self._socket, port = socket.socketpair()
        self._alive, alive = socket.socketpair()
        with port, alive, (self._work / "qemu").open("wb") as said:
            ends = {PORT: port.fileno(), ALIVE: alive.fileno()}
            self._qemu = subprocess.Popen(
                self._command(made, ends),
                env={**os.environ, "TMPDIR": str(self._work)},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                pass_fds=list(ends.values()),
            )

    def _command(self, made: image.Image, ports: dict[str, int]) -> list[str]:
        command = [
            # It ends with us, however we end.
            "setpriv", "--pdeathsig", "KILL",
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
            "-machine", "q35", "-accel", _EMULATION,
            "-cpu", "Nehalem", "-smp", PROCESSORS, "-m", MEMORY,
            "-kernel", str(made.kernel), "-initrd", str(made.initramfs), "-append", _KERNEL,
            "-chardev", f"file,id=console,path={self._console}", "-serial", "chardev:console",
            "-device", "virtio-rng-pci", "-device", "virtio-serial-pci",
        ]  # fmt: skip
        for name, fd in ports.items():
            command += ["-chardev", f"socket,id={name},fd={fd}"]
            command += ["-device", f"virtserialport,chardev={name},name={name}"]
        for number, (path, snapshot) in enumerate(self._disks(made)):
            drive = f"if=none,id=disk{number},file={path},format=raw,cache=unsafe"
            command += ["-drive", f"{drive},snapshot={'on' if snapshot else 'off'}"]
            command += ["-device", f"virtio-blk-pci,drive=disk{number}"]
        return command

    def _disks(self, made: image.Image) -> list[tuple[Path, bool]]:
        """vda the root file system, vdb the checkout, vdc swap, vdd a disk that no file system is on."""
        own = [(self._work / name, False) for name in ("checkout", *_DISKS)]
        return [(made.root, True), *own]

    def receive(self, timeout: float) -> dict[str, Any]:
        """The next message. Raises MachineDied when none comes within `timeout` seconds.

        Raises MachineHung when the guest gives no sign of life.
        """
        assert self._socket is not None
        assert self._alive is not None
        deadline = time.monotonic() + timeout
        self._heard = (time.monotonic(), self._computed())
        while b"\n" not in self._buffer:
            if time.monotonic() > deadline:
                raise MachineDied(f"Nothing was heard for {timeout:.0f} s.\n{self.console()}")
            readable, _, _ = select.select([self._socket, self._alive], [], [], 1.0)
            for end in readable:
                data = end.recv(1 << 16)
                if not data and b"\n" not in self._buffer:
                    raise self._gone()
                if end is self._socket:
                    self._buffer += data
                else:
                    self._most = _SILENT_COMPUTING
            if readable:
                self._heard = (time.monotonic(), self._computed())
            else:
                self._check_alive()
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def _check_alive(self) -> None:
        silent = time.monotonic() - self._heard[0]
        computing = self._computed() - self._heard[1]
        if silent > _SILENT or min(silent, computing) > self._most:
            raise MachineHung(
                f"The guest gave no sign of life for {silent:.0f} s, in which its emulator computed for "
                f"{computing:.0f} s.\n{self.console()}"
            )

    def _computed(self) -> float:
        """Seconds of processors that the emulator has used; as many as before when it has ended."""
        assert self._qemu is not None
        with contextlib.suppress(OSError, IndexError):
            stat = Path(f"/proc/{self._qemu.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(stat[11]) + int(stat[12])) / _TICKS
        return self._heard[1]

    def _gone(self) -> MachineDied:
        console = self.console()
        kind = MachineHung if _STUCK in console else MachineDied
        return kind(f"The virtual machine went away ({self._end()}).\n{console}")

    def _end(self) -> str:
        assert self._qemu is not None
        try:
            return f"qemu's exit code is {self._qemu.wait(timeout=10)}"
        except subprocess.TimeoutExpired:
            return "qemu still runs"

    def console(self) -> str:
        """The last lines of its console, and what qemu itself said."""
        lines = []
        for name in ("qemu", "console"):
            with contextlib.suppress(OSError):
                lines += (self._work / name).read_text(errors="replace").splitlines()
        return "\n".join(lines[-_CONSOLE_LINES:])

    def stop(self) -> None:
        for end in (self._socket, self._alive):
            if end is not None:
                end.close()
        if self._qemu is not None:
            self._qemu.kill()
            self._qemu.wait()
        self._directory.cleanup()


def _bytes(size: str) -> int:
    return int(size.removesuffix("M")) << 20
