"""Advice that somebody silenced."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class Silence(models.Model):
    container = models.ForeignKey(
        "containers.Container", on_delete=models.CASCADE, related_name="silences"
    )
    rule = models.CharField(max_length=64)
    reason = models.CharField(max_length=255)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["container", "rule"], name="silence_once")]

    def __str__(self) -> str:
        return f"{self.rule} for {self.container}"
