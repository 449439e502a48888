"""Images, the references people find them by, and the registries they come from."""

from __future__ import annotations

from django.db import models


class Image(models.Model):
    """Replica of one image in a host's store. `digest` is the digest of its config."""

    host = models.ForeignKey("hosts.Host", on_delete=models.CASCADE, related_name="images")
    digest = models.CharField(max_length=71)  # "sha256:" + 64
    config = models.JSONField(default=dict)  # runtime.model.image.ImageConfig
    layers = models.JSONField(default=list)  # [runtime.model.image.LayerRecord]
    architecture = models.CharField(max_length=32, blank=True)
    os = models.CharField(max_length=32, blank=True)
    size = models.BigIntegerField(default=0)  # bytes unpacked
    manifest_digest = models.CharField(max_length=71, blank=True)
    built_at = models.DateTimeField(null=True, blank=True)
    added_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["host", "digest"], name="image_once_per_host")
        ]

    def __str__(self) -> str:
        return self.digest[7:19]


class Reference(models.Model):
    """A full name (`docker.io/library/nginx:1.27`) that points at one image of a host."""

    host = models.ForeignKey("hosts.Host", on_delete=models.CASCADE)
    image = models.ForeignKey(Image, on_delete=models.CASCADE, related_name="references")
    name = models.CharField(max_length=512)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["host", "name"], name="reference_once_per_host")
        ]

    def __str__(self) -> str:
        return self.name


class Registry(models.Model):
    """How to talk to one registry. The password is encrypted with a key derived from SECRET_KEY."""

    hostname = models.CharField(max_length=255, unique=True)  # "registry.example:5000"
    plain_http = models.BooleanField(default=False)
    username = models.CharField(max_length=255, blank=True)
    encrypted_password = models.TextField(blank=True)

    class Meta:
        verbose_name_plural = "registries"

    def __str__(self) -> str:
        return self.hostname
