"""The host's own name servers, from /etc/resolv.conf. Standard library only: the resolver imports it."""

from __future__ import annotations

import socket
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
            address = words[1].partition("%")[0]
            try:
                socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
            except OSError:
                continue
            found.append(words[1])
    return found
