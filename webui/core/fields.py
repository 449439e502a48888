"""Identifiers."""

from __future__ import annotations

import secrets


def new_id() -> str:
    """64 hex digits, like Docker's ids; the first 12 are shown."""
    return secrets.token_hex(32)
