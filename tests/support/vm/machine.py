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
from tests.support.vm.protocol import ARGUMENTS, PORT

MEMORY = "2048M"
_CONSOLE_LINES = 60
_DISKS = {"swap": "256M", "scratch": "128M"}
_KERNEL = (
    "console=ttyS0 panic=-1 oops=panic mitigations=off nokaslr random.trust_cpu=on "
    "loglevel=4 psi=1 swapaccount=1"
)


class MachineDied(Exception):
    """The guest panicked, hung or could not be started; the message holds the end of its console."""


class Machine:
    """Boots on entering. Messages come from `receive` until the guest has run every test."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="vm-tests-", dir="/tmp")
        self._work = Path(self._directory.name)
        self._console = self._work / "console"
        self._arguments = list(arguments)
        self._buffer = b""
        self._qemu: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def start(self) -> None:
        """Raises MachineDied when qemu does not start."""
        made = image.base()
        image.checkout(self._work / "checkout", {ARGUMENTS: json.dumps(self._arguments)})
        for name, size in _DISKS.items():
            with (self._work / name).open("wb") as file:
                file.truncate(_bytes(size))
        ours, theirs = socket.socketpair()
        self._socket = ours
        with theirs, (self._work / "qemu").open("wb") as said:
            self._qemu = subprocess.Popen(
                self._command(made, theirs.fileno()),
                env={**os.environ, "TMPDIR": str(self._work)},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
            )

    def _command(self, made: image.Image, port: int) -> list[str]:
        command = [
            # It ends with us, however we end.
            "setpriv", "--pdeathsig", "KILL",
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
            "-machine", "q35", "-accel", "tcg,thread=multi,tb-size=512",
            "-cpu", "Nehalem", "-smp", str(min(os.cpu_count() or 1, 4)), "-m", MEMORY,
            "-kernel", str(made.kernel), "-initrd", str(made.initramfs), "-append", _KERNEL,
            "-chardev", f"file,id=console,path={self._console}", "-serial", "chardev:console",
            "-device", "virtio-serial-pci", "-chardev", f"socket,id=port,fd={port}",
            "-device", f"virtserialport,chardev=port,name={PORT}",
            "-device", "virtio-rng-pci",
        ]  # fmt: skip
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
        """The next message. Raises MachineDied when none comes within `timeout` seconds."""
        assert self._socket is not None
        deadline = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                raise MachineDied(f"Nothing was heard for {timeout:.0f} s.\n{self.console()}")
            if not select.select([self._socket], [], [], left)[0]:
                continue
            data = self._socket.recv(1 << 16)
            if not data:
                raise MachineDied(
                    f"The virtual machine went away ({self._end()}).\n{self.console()}"
                )
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

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
        if self._socket is not None:
            self._socket.close()
        if self._qemu is not None:
            self._qemu.kill()
            self._qemu.wait()
        self._directory.cleanup()


def _bytes(size: str) -> int:
    return int(size.removesuffix("M")) << 20
