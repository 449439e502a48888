"""Names for containers that were given none."""

from __future__ import annotations

import secrets

_ADJECTIVES = (
    "amber", "brisk", "calm", "clear", "coral", "deft", "eager", "early", "fair", "fleet",
    "gentle", "grand", "hazel", "ivory", "jolly", "keen", "level", "lively", "lucid", "merry",
    "mild", "neat", "noble", "pale", "plain", "prime", "quick", "quiet", "rapid", "ready",
    "rosy", "sharp", "silver", "sleek", "smooth", "snug", "solid", "still", "sunny", "swift",
    "teal", "tidy", "trim", "vivid", "warm", "wide", "wise", "young",
)  # fmt: skip
_NOUNS = (
    "anchor", "beacon", "berth", "boat", "bow", "brig", "buoy", "canoe", "channel", "cove",
    "crane", "current", "deck", "dinghy", "dock", "ferry", "galley", "gull", "harbour",
    "haven", "helm", "hull", "island", "jetty", "keel", "kelp", "lagoon", "lock", "mast",
    "moor", "oar", "pier", "port", "quay", "reef", "rudder", "sail", "shore", "skiff", "sloop",
    "spar", "tide", "tiller", "tug", "wake", "wave", "wharf", "yawl",
)  # fmt: skip


def random_name() -> str:
    """Two words that are easy to say: "swift-harbour"."""
    return f"{secrets.choice(_ADJECTIVES)}-{secrets.choice(_NOUNS)}"
