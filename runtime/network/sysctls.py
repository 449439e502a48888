"""Kernel settings below /proc/sys that container networks need: set where they are not so, and written down.

Source: Documentation/networking/ip-sysctl.rst of the kernel.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import KernelFailure, Unsupported
from runtime.store.files import read_json, write_json
from runtime.store.paths import Config

_PROC = Path("/proc/sys")
IP_FORWARD = "net.ipv4.ip_forward"
IP6_FORWARD = "net.ipv6.conf.all.forwarding"


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

    def require_forwarding6(self) -> None:
        """The same for IPv6. Raises KernelFailure, Unsupported where the kernel has no IPv6.

        A host that forwards takes no more router advertisements, and so would lose its own address and
        default route in time, unless an interface says that it wants them all the same (accept_ra=2).
        Those that took them so far, and those that come later, go on.
        """
        require_ipv6()
        before = read(IP6_FORWARD)
        if before != "0":
            return
        for name in sorted(path.name for path in (_PROC / "net/ipv6/conf").iterdir()):
            setting = f"net.ipv6.conf.{name}.accept_ra"
            with contextlib.suppress(KernelFailure):  # an interface that has just gone
                if name not in ("all", "lo") and read(setting) == "1":
                    reason = "This host goes on listening to its routers while it forwards IPv6."
                    self._remember(SysctlChange(setting, "1", "2", reason))
                    write(setting, "2")
        reason = "Containers with IPv6 reach other machines, and are reached, through the host."
        self._remember(SysctlChange(IP6_FORWARD, before, "1", reason))
        write(IP6_FORWARD, "1")

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
    # Routes are not a container's to tell the host.
    write(f"net.ipv4.conf.{name}.accept_redirects", "0")
    if not ipv6:
        quiet_ipv6(name)
        return
    require_ipv6()
    # Its addresses come from us alone: no container is its router, none is asked whether they are free.
    for setting, value in (
        ("disable_ipv6", "0"), ("accept_ra", "0"), ("autoconf", "0"), ("accept_dad", "0"),
        ("addr_gen_mode", "1"), ("accept_redirects", "0"),
    ):  # fmt: skip
        write(f"net.ipv6.conf.{name}.{setting}", value)


def has_ipv6() -> bool:
    """Whether the kernel has IPv6 (`ipv6.disable=1` at boot takes it away)."""
    return os.path.exists("/proc/thread-self/net/if_inet6")


def require_ipv6() -> None:
    """Raise Unsupported where the kernel has no IPv6."""
    if not has_ipv6():
        raise Unsupported(
            "A network with IPv6",
            "IPv6 in the kernel",
            hint="Start the host without ipv6.disable=1, or make the network without IPv6.",
            field="ipv6",
        )


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
    """Keep an interface of ours from taking IPv6 addresses by itself; no IPv6 in the kernel is fine.

    Raises KernelFailure.
    """
    try:
        write(f"net.ipv6.conf.{name}.disable_ipv6", "1")
    except KernelFailure as error:
        if error.errno != errno.ENOENT:
            raise


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
    """A name of an interface may have dots of its own: "net.ipv6.conf.eth0.5.accept_ra"."""
    parts = name.split(".")
    if parts[2:3] == ["conf"] and len(parts) > 5:
        parts = [*parts[:3], ".".join(parts[3:-1]), parts[-1]]
    return _PROC.joinpath(*parts)
