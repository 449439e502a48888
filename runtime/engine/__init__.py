"""What the outside calls: lifecycle, volumes, observation, measurements."""

from runtime.engine.engine import Engine

__all__ = ["Engine"]
