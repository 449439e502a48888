"""Debian packages: which are missing, and how they are installed without starting their services."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from workers.supervisor import console

# To run. redis-tools holds the server's binary without its system service (see processes.py).
RUN = (
    "busybox-static",
    "ca-certificates",
    "iproute2",
    "libnftables1",
    "nftables",
    "python3-venv",
    "redis-tools",
)
# To test: a registry to pull from, a browser, the other database, and what real images are made with.
TEST = ("chromium", "debootstrap", "docker-registry", "postgresql", "xz-utils", "zstd")
# To test on a unified host: an emulator, and what unpacks Debian's packages to a disk for it.
VM = ("e2fsprogs", "mmdebstrap", "qemu-system-x86")

_POLICY = Path("/usr/sbin/policy-rc.d")
_LISTS = Path("/var/lib/apt/lists")


class InstallFailed(Exception):
    """apt could not install what is needed; the message holds its last lines."""


def missing(names: Sequence[str]) -> list[str]:
    """Those of `names` that dpkg does not have installed."""
    done = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\\n", *names],
        capture_output=True,
        text=True,
        check=False,  # an unknown package is an exit code of 1
    )
    installed = {
        name
        for name, _, status in (line.partition(" ") for line in done.stdout.splitlines())
        if status == "installed"
    }
    return [name for name in names if name not in installed]


def ensure(names: Sequence[str]) -> None:
    """Install what is missing. Raises InstallFailed."""
    wanted = missing(names)
    if not wanted:
        return
    if not any(_LISTS.glob("*Packages*")):
        console.step("Reading Debian's package lists")
        _apt("update")
    console.step(f"Installing from Debian: {', '.join(wanted)}")
    with _services_stay_down():
        try:
            _apt("install", "--no-install-recommends", "--yes", *wanted)
        except InstallFailed:
            # Lists that are old name versions which the mirror has dropped.
            _apt("update")
            _apt("install", "--no-install-recommends", "--yes", *wanted)


def _apt(*arguments: str) -> None:
    done = subprocess.run(
        ["apt-get", "--quiet", "-o", "DPkg::Lock::Timeout=120", *arguments],
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        last = "\n".join(done.stdout.splitlines()[-15:])
        raise InstallFailed(f"apt-get {arguments[0]} failed:\n{last}")


@contextmanager
def _services_stay_down() -> Iterator[None]:
    """Packages with a service would start it: invoke-rc.d(8) asks this file first.

    The host's own policy, where there is one, is left alone.
    """
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\n# Made by `slipway` while it installs packages.\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)
