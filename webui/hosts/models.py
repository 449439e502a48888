"""Machines that run containers."""

from __future__ import annotations

from django.db import models


class Host(models.Model):
    """One machine. `facts` is what its worker reported at its last start: kernel, cgroups, capabilities."""

    id = models.CharField(primary_key=True, max_length=32)  # hex, kept in <root>/host-id
    name = models.CharField(max_length=255)
    boot_id = models.CharField(max_length=36, blank=True)
    facts = models.JSONField(default=dict)
    # Bundles on its disk that the database does not know: {"id", "name", "status"} each.
    unmanaged = models.JSONField(default=list)
    last_seen = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.name

    @property
    def queue(self) -> str:
        """Celery queue that this host's worker consumes."""
        return f"host.{self.id}"
