"""Points in time as people write them."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from runtime.errors import SpecInvalid
from runtime.model.parse import parse_duration


def parse_time(text: str, field: str) -> float | None:
    """Unix seconds of RFC 3339, of Unix seconds, or of a duration before now; None for ""."""
    if not text:
        return None
    try:
        seconds = _seconds(text, field)
        datetime.fromtimestamp(seconds, UTC)  # no calendar has what is far beyond
        return seconds
    except (SpecInvalid, ValueError, OverflowError, OSError):
        raise SpecInvalid(
            field,
            f"{field}: {text!r} is not a time.",
            hint="Write 2026-01-31T12:00:00Z, Unix seconds, or a duration such as 10m.",
        ) from None


def _seconds(text: str, field: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return time.time() - parse_duration(text, field)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
