"""Containers: the desired spec, and a replica of what was last observed."""

from __future__ import annotations

from django.db import models

from runtime.model.state import Status
from webui.core.fields import new_id


class Container(models.Model):
    """`spec` is what the user asked for; every field below `status` is a replica of the host's facts.

    `revision` grows with every change that a browser should see; a row with an older one is stale.
    """

    id = models.CharField(primary_key=True, max_length=64, default=new_id)
    host = models.ForeignKey("hosts.Host", on_delete=models.PROTECT, related_name="containers")
    name = models.CharField(max_length=128)
    image = models.ForeignKey(
        "images.Image", on_delete=models.PROTECT, related_name="containers", null=True
    )
    image_reference = models.CharField(max_length=512)
    spec = models.JSONField()  # runtime.model.spec.ContainerSpec
    created_by = models.ForeignKey("accounts.User", on_delete=models.SET_NULL, null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    revision = models.BigIntegerField(default=1)

    status = models.CharField(max_length=16, default=Status.CREATED)
    status_error = models.TextField(blank=True)  # why it is unknown or dead
    managed = models.BooleanField(default=True)
    present = models.BooleanField(default=False)  # its bundle exists on the host
    pid = models.IntegerField(default=0)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    exit_code = models.IntegerField(null=True, blank=True)
    exit_reason = models.CharField(max_length=16, blank=True)
    exit_error = models.TextField(blank=True)
    oom_killed = models.BooleanField(default=False)
    restart_count = models.IntegerField(default=0)
    next_restart_at = models.DateTimeField(null=True, blank=True)
    health = models.JSONField(default=dict)
    # Facts the advisor uses, refreshed by the watcher: {"writable_bytes", "writable_paths": [[path, bytes]],
    # "throttled_share", "throttled_seconds", "oom_kills", "memory_peak", "oom_last": {data of the event, "time"}}
    usage = models.JSONField(default=dict)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["host", "name"], name="container_name_per_host")
        ]
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.name
