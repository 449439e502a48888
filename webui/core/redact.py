"""Values of variables, which are for those who may run commands where they are set: others see their names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

HIDDEN = "•••"

Row = dict[str, Any]


def names_only(items: Iterable[str]) -> list[str]:
    """ "NAME=value" with the value hidden, also an empty one."""
    return [f"{item.partition('=')[0]}={HIDDEN}" for item in items]


def without_values(holder: Row | None) -> Row | None:
    """A process or the config of an image, with the values in its `env` hidden."""
    return holder and {**holder, "env": names_only(holder.get("env") or ())}
