"""Images: from registries and archives to layers on disk."""

from __future__ import annotations

from runtime.images.store import ImageStore

__all__ = ("ImageStore",)
