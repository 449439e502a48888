"""What every process of a host's worker side shares: the instance's Config, its host id, its engine."""

from __future__ import annotations

import functools
import secrets
import socket
from typing import TYPE_CHECKING

from runtime.store.files import write_atomic
from runtime.store.paths import Config

if TYPE_CHECKING:
    from runtime.engine import Engine


@functools.cache
def config() -> Config:
    """The instance this process serves, from SLIPWAY_ROOT, SLIPWAY_RUN and SLIPWAY_NAME."""
    return Config.from_env()


@functools.cache
def engine() -> Engine:
    """The one runtime of this process; safe to use from several threads."""
    from runtime.engine import Engine  # noqa: PLC0415 - heavy; only workers that run tasks need it

    return Engine(config())


def host_id() -> str:
    """The 32 hex digits in `<root>/host-id`, made on first use: what this host's queue is named after."""
    path = config().root / "host-id"
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, secrets.token_hex(16).encode())
        return path.read_text(encoding="ascii").strip()


def host_name() -> str:
    return socket.gethostname()
