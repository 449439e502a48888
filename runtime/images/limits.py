"""How much an archive may become. Settable, because somebody's genuine image is large."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """Bounds of one layer or archive."""

    max_bytes: int = 64 << 30
    max_ratio: int = 200  # unpacked to packed …
    ratio_from: int = 256 << 20  # … looked at from this many unpacked bytes on
    max_entries: int = 2_000_000

    @classmethod
    def from_env(cls) -> UnpackLimits:
        """SLIPWAY_MAX_LAYER_BYTES, SLIPWAY_MAX_LAYER_RATIO and SLIPWAY_MAX_LAYER_ENTRIES."""
        default = cls()
        return cls(
            max_bytes=int(os.environ.get("SLIPWAY_MAX_LAYER_BYTES", default.max_bytes)),
            max_ratio=int(os.environ.get("SLIPWAY_MAX_LAYER_RATIO", default.max_ratio)),
            max_entries=int(os.environ.get("SLIPWAY_MAX_LAYER_ENTRIES", default.max_entries)),
        )
