"""Networks of containers: bridges and endpoints, published ports and the firewall, names.

`NetworkManager` is what the rest of the runtime uses. It is imported on first use only: the resolver
below this package always runs and must not carry pyroute2 and libnftables in its memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.network.manager import NetworkManager

__all__ = ["NetworkManager"]


def __getattr__(name: str) -> Any:
    if name == "NetworkManager":
        from runtime.network.manager import NetworkManager  # noqa: PLC0415 - see the docstring

        return NetworkManager
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
