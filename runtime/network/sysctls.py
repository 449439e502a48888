"""Kernel settings below /proc/sys that container networks need: set where they are not so, and written down.

Source: Documentation/networking/ip-sysctl.rst of the kernel.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import KernelFailure
from runtime.store.files import read_json, write_json
from runtime.store.paths import Config

_PROC = Path("/proc/sys")
IP_FORWARD = "net.ipv4.ip_forward"


@dataclass(frozen=True, slots=True)
class SysctlChange:
    """A setting of the host (not of an interface of ours) that was changed for containers."""

    name: str  # "net.ipv4.ip_forward"
    before: str
    after: str
    reason: str


class Sysctls:
    """Reads and sets; remembers each change of a host-wide setting in `config.sysctls`."""

    def __init__(self, config: Config) -> None:
        self._file = config.sysctls

    def require_forwarding(self) -> None:
        """Let the host pass packets between interfaces. Raises KernelFailure."""
        before = read(IP_FORWARD)
        if before == "1":
            return
        reason = "Containers reach other machines, and are reached, through the host."
        self._remember(SysctlChange(IP_FORWARD, before, "1", reason))
        write(IP_FORWARD, "1")

    def changes(self) -> list[SysctlChange]:
        """Every host-wide setting that this instance changed since the host started."""
        try:
            return [SysctlChange(**change) for change in read_json(self._file)]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError):  # a crash during a write that was not made durable
            return []

    def _remember(self, change: SysctlChange) -> None:
        others = [c for c in self.changes() if c.name != change.name]
        self._file.parent.mkdir(parents=True, exist_ok=True)
        fields = ("name", "before", "after", "reason")
        write_json(
            self._file,
            [{f: getattr(c, f) for f in fields} for c in (*others, change)],
            durable=False,
        )


def prepare_bridge(name: str, *, ipv6: bool) -> None:
    """Settings of a bridge of ours. Raises KernelFailure.

    route_localnet lets the host's own connections to 127.0.0.1 reach published ports; the rule in
    ruleset.py keeps containers from using it the other way round.
    """
    write(f"net.ipv4.conf.{name}.route_localnet", "1")
    if not ipv6:
        quiet_ipv6(name)


def bridge_netfilter() -> bool:
    """Whether the firewall also sees frames inside bridges (br_netfilter, as Docker loads it).

    Then a container that calls its own published port is translated inside the bridge, and the frame
    has to go back out by the port it came in.
    """
    try:
        return read("net.bridge.bridge-nf-call-iptables") == "1"
    except KernelFailure:
        return False


def quiet_ipv6(name: str) -> None:
    """Keep an interface of ours from taking IPv6 addresses by itself; no IPv6 in the kernel is fine."""
    with contextlib.suppress(KernelFailure):
        write(f"net.ipv6.conf.{name}.disable_ipv6", "1")


def read(name: str) -> str:
    """Value of the setting "net.ipv4.ip_forward". Raises KernelFailure."""
    path = _path(name)
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise KernelFailure("read", error.errno or 0, str(path)) from error


def write(name: str, value: str) -> None:
    """Set it, unless it is so already. Raises KernelFailure."""
    if read(name) == value:
        return
    path = _path(name)
    try:
        path.write_text(value, encoding="ascii")
    except OSError as error:
        raise KernelFailure(
            "write",
            error.errno or 0,
            str(path),
            hint=f"Set {name}={value} on the host, in /etc/sysctl.d.",
        ) from error


def _path(name: str) -> Path:
    return _PROC / name.replace(".", "/")
