"""The environment, read and checked once."""

from __future__ import annotations

import secrets
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from runtime.store.paths import Config


class Environment(BaseSettings):
    """What `slipway up` passes on. Names are the field's, upper-case; README.md lists them."""

    model_config = SettingsConfigDict(extra="ignore")

    database_url: str = ""
    redis_url: str = ""
    debug: bool = Field(default=False, validation_alias=AliasChoices("SLIPWAY_DEBUG"))
    allowed_hosts: str = Field(default="", validation_alias=AliasChoices("SLIPWAY_ALLOWED_HOSTS"))
    https: bool = Field(default=False, validation_alias=AliasChoices("SLIPWAY_HTTPS"))
    publish_address: str = Field(
        default="0.0.0.0",
        validation_alias=AliasChoices("SLIPWAY_PUBLISH_ADDRESS"),
    )
    insecure_registries: str = Field(
        default="", validation_alias=AliasChoices("SLIPWAY_INSECURE_REGISTRIES")
    )
    upload_limit: int = Field(
        default=20 * 1024**3, validation_alias=AliasChoices("SLIPWAY_UPLOAD_LIMIT")
    )  # bytes

    @cached_property
    def config(self) -> Config:
        return Config.from_env()

    @property
    def redis(self) -> str:
        """`REDIS_URL`, or the instance's own Redis on its socket."""
        return self.redis_url or f"unix://{self.config.redis_socket}?db=0"

    @cached_property
    def secret_key(self) -> str:
        """From `<root>/secret-key`, which `up` makes. Without one every process start signs anew."""
        try:
            return (self.config.root / "secret-key").read_text().strip()
        except OSError:
            return secrets.token_urlsafe(50)

    @cached_property
    def host_id(self) -> str:
        try:
            return (self.config.root / "host-id").read_text().strip()
        except OSError:
            return ""

    @property
    def hosts(self) -> list[str]:
        """Names this site answers to. Any by default: the user reaches it by a name we cannot know,
        and websockets check that Origin and Host agree.
        """
        return [h.strip() for h in self.allowed_hosts.split(",") if h.strip()] or ["*"]

    def database(self) -> dict[str, Any]:
        """Django's DATABASES["default"]."""
        if self.database_url:
            return _from_url(self.database_url)
        return _sqlite(self.config.db / "slipway.sqlite3")


def _sqlite(path: Path) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(path),
        "OPTIONS": {
            # Writers take their lock at BEGIN: none fails half-way for having read first.
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
            "PRAGMA temp_store=MEMORY; PRAGMA mmap_size=134217728;",
        },
    }


def _from_url(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        # sqlite:////absolute and sqlite:///absolute are both written.
        return _sqlite(Path("/" + parts.path.lstrip("/")))
    if parts.scheme not in ("postgres", "postgresql"):
        message = "DATABASE_URL must begin with postgresql:// or sqlite:///."
        raise ValueError(message)
    options = dict(parse_qsl(parts.query))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        # A directory here is a unix socket's.
        "HOST": options.pop("host", unquote(parts.hostname or "")),
        "PORT": str(options.pop("port", parts.port or "")),
        "OPTIONS": options,
    }
