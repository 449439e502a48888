"""Operations (work somebody asked for) and events (facts)."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models

if TYPE_CHECKING:
    from collections.abc import Callable

    from webui.containers.models import Container


class Operation(models.Model):
    """Who asked for what, when, and how it went.

    A worker claims one by compare-and-set on `status` and beats `heartbeat` while it works; one that is
    running with a stale heartbeat has lost its worker and is run again (tasks may run twice) or failed.
    """

    class Status(models.TextChoices):
        PENDING = "pending"
        RUNNING = "running"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        CANCELLED = "cancelled"

    SEALED = "sealed"  # the name of the one parameter that is encrypted, and gone at the end
    LIVE = (Status.PENDING, Status.RUNNING)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    host = models.ForeignKey("hosts.Host", on_delete=models.CASCADE)
    kind = models.CharField(max_length=64)  # "container.create", "image.pull": the task's name
    target_type = models.CharField(max_length=16)  # "container" "image" "volume" "network"
    target_id = models.CharField(max_length=512, blank=True)
    target_name = models.CharField(max_length=512, blank=True)
    params = models.JSONField(default=dict)  # checked again by the task; never a free-form spec
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True)
    via = models.CharField(max_length=16, default="ui")  # "ui" "api" "cli" "system"
    status = models.CharField(max_length=16, choices=Status, default=Status.PENDING)
    progress = models.JSONField(
        default=dict
    )  # {"parts": {part: runtime.model.image.Progress}, "text"}
    result = models.JSONField(default=dict)
    error = models.JSONField(null=True)  # EngineError.payload()
    cancel_requested = models.BooleanField(default=False)
    claimed_by = models.CharField(max_length=64, blank=True)
    attempts = models.IntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    heartbeat = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    # No columns, but what a task leaves for the operation's end: the target as it has just seen it, and what
    # writes that down, in one transaction with the end.
    seen: Container | None = None
    write_seen: Callable[[], None] | None = None

    class Meta:
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["status", "created_at"])]

    def __str__(self) -> str:
        return f"{self.kind} {self.target_name}"

    @property
    def is_live(self) -> bool:
        return self.status in self.LIVE


class Event(models.Model):
    """A fact, past tense: "container.started", "container.oom_killed", "image.pulled"."""

    host = models.ForeignKey("hosts.Host", on_delete=models.CASCADE)
    time = models.DateTimeField()
    type = models.CharField(max_length=64)
    target_type = models.CharField(max_length=16)
    target_id = models.CharField(max_length=512, blank=True)
    target_name = models.CharField(max_length=512, blank=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True)
    data = models.JSONField(default=dict)

    class Meta:
        ordering = ["-time", "-id"]
        indexes = [models.Index(fields=["target_type", "target_id", "-time"])]

    def __str__(self) -> str:
        return f"{self.type} {self.target_name}"
