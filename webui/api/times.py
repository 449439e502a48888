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
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        pass
    else:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    try:
        return time.time() - parse_duration(text, field)
    except SpecInvalid:
        raise SpecInvalid(
            field,
            f"{field}: {text!r} is not a time.",
            hint="Write 2026-01-31T12:00:00Z, Unix seconds, or a duration such as 10m.",
        ) from None
