"""Volumes: named storage that outlives containers."""

from __future__ import annotations

from django.db import models


class Volume(models.Model):
    host = models.ForeignKey("hosts.Host", on_delete=models.CASCADE, related_name="volumes")
    name = models.CharField(max_length=128)
    anonymous = models.BooleanField(default=False)
    made = models.BooleanField(
        default=False
    )  # on the host; until then a creation that ends takes it
    labels = models.JSONField(default=dict, blank=True)
    size = models.BigIntegerField(null=True, blank=True)  # bytes, as last measured
    measured_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["host", "name"], name="volume_name_per_host")
        ]

    def __str__(self) -> str:
        return self.name


class VolumeMount(models.Model):
    """Which container mounts which volume: what keeps a volume from being removed."""

    container = models.ForeignKey(
        "containers.Container", on_delete=models.CASCADE, related_name="volume_mounts"
    )
    volume = models.ForeignKey(Volume, on_delete=models.PROTECT, related_name="mounts")
    target = models.CharField(max_length=4096)
    read_only = models.BooleanField(default=False)

    def __str__(self) -> str:
        return f"{self.volume} at {self.target}"
