"""People and the tokens they give to programs."""

from __future__ import annotations

from django.contrib.auth.models import AbstractUser
from django.db import models


class User(AbstractUser):
    """Our own user model from the first migration, so that it can grow."""

    class Role(models.TextChoices):
        VIEWER = "viewer", "Viewer"
        OPERATOR = "operator", "Operator"
        ADMIN = "admin", "Admin"

    role = models.CharField(max_length=16, choices=Role, default=Role.VIEWER)

    @property
    def may_operate(self) -> bool:
        """May change containers, images, volumes and networks."""
        return self.is_active and (
            self.is_superuser or self.role in (self.Role.OPERATOR, self.Role.ADMIN)
        )

    @property
    def is_admin(self) -> bool:
        """May change settings that concern everybody: registries, accounts."""
        return self.is_active and (self.is_superuser or self.role == self.Role.ADMIN)


class ApiToken(models.Model):
    """A bearer token; only its SHA-256 is stored. `prefix` is shown so that people tell them apart."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=12)
    digest = models.CharField(max_length=64, unique=True)
    read_only = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"
