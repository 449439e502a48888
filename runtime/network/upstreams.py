"""The host's own name servers, from /etc/resolv.conf. Standard library only: the resolver imports it."""

from __future__ import annotations

import ipaddress
from pathlib import Path

RESOLV_CONF = Path("/etc/resolv.conf")


def system_nameservers(path: Path = RESOLV_CONF) -> list[str]:
    """Addresses of the `nameserver` lines in their order; [] when the file cannot be read (resolv.conf(5))."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                ipaddress.ip_address(words[1].partition("%")[0])
            except ValueError:
                continue
            found.append(words[1])
    return found
