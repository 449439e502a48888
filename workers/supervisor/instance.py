"""One instance of the platform, as the environment describes it: paths, address, users, interpreter."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import SpecInvalid
from runtime.store.paths import Config

CHECKOUT = Path(__file__).resolve().parent.parent.parent
SYSTEM_PYTHON = "/usr/bin/python3"
DEFAULT_PORT = 8000

WEB_USER = "slipway"
REDIS_USER = "slipway-redis"

# What of the caller's environment reaches the unprivileged processes. The rest may hold root's secrets.
_PASSED_ON = ("PATH", "LANG", "LANGUAGE", "TZ", "DATABASE_URL", "REDIS_URL", "CI")
_PASSED_ON_PREFIXES = ("SLIPWAY_", "LC_")


@dataclass(frozen=True, slots=True)
class Instance:
    """Everything `slipway` derives its actions from; nothing else reads the environment."""

    config: Config
    host: str
    port: int
    redis_url: str  # "" when the instance has a Redis of its own
    database_url: str  # "" for SQLite

    @classmethod
    def from_env(cls) -> Instance:
        """SLIPWAY_ROOT, _RUN, _NAME, _LISTEN (address:port), _PORT, DATABASE_URL and REDIS_URL.

        Raises SpecInvalid.
        """
        host, port = _listen_address(
            os.environ.get("SLIPWAY_LISTEN", ""), os.environ.get("SLIPWAY_PORT", "")
        )
        return cls(
            config=Config.from_env(),
            host=host,
            port=port,
            redis_url=os.environ.get("REDIS_URL", ""),
            database_url=os.environ.get("DATABASE_URL", ""),
        )

    # -- paths --------------------------------------------------------------------------------

    @property
    def venv(self) -> Path:
        return CHECKOUT / ".venv"

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python"

    @property
    def app(self) -> Path:
        """Where the unprivileged processes see the checkout, read-only, in a mount namespace of theirs."""
        return self.config.run / "app"

    @property
    def app_python(self) -> Path:
        return self.app / ".venv" / "bin" / "python"

    @property
    def state_file(self) -> Path:
        return self.config.run / "supervisor.json"

    @property
    def lock_file(self) -> Path:
        return self.config.run / "supervisor.lock"

    @property
    def stamps(self) -> Path:
        """What has been done to this root, so that the next `up` need not do it again."""
        return self.config.root / "stamps"

    @property
    def secret_key(self) -> Path:
        return self.config.root / "secret-key"

    @property
    def host_id(self) -> Path:
        return self.config.root / "host-id"

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/"

    @property
    def own_redis(self) -> bool:
        return not self.redis_url

    # -- environments of the processes --------------------------------------------------------

    def root_env(self) -> dict[str, str]:
        """For the root processes: the caller's, so that proxies and certificates of the host apply."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        return env | self._common_env()

    def web_env(self) -> dict[str, str]:
        """For the unprivileged processes: what they need, and nothing else of root's environment."""
        env = {
            k: v
            for k, v in os.environ.items()
            if k in _PASSED_ON or k.startswith(_PASSED_ON_PREFIXES)
        }
        return env | self._common_env() | {"HOME": "/nonexistent"}

    def _common_env(self) -> dict[str, str]:
        return {
            "SLIPWAY_ROOT": str(self.config.root),
            "SLIPWAY_RUN": str(self.config.run),
            "SLIPWAY_NAME": self.config.name,
            "SLIPWAY_PORT": str(self.port),
            "DJANGO_SETTINGS_MODULE": "webui.settings",
            "PYTHONUNBUFFERED": "1",
            "PYTHONSAFEPATH": "",
        }


def account(name: str) -> pwd.struct_passwd:
    """The system user; raises KeyError when `up` has not made it yet."""
    return pwd.getpwnam(name)


def _listen_address(listen: str, port: str) -> tuple[str, int]:
    host, separator, listen_port = listen.rpartition(":")
    if listen and not separator:
        raise SpecInvalid(
            "SLIPWAY_LISTEN",
            f"SLIPWAY_LISTEN is {listen!r}, not an address and a port.",
            hint="For example 127.0.0.1:8000, 0.0.0.0:8000 or [::1]:8000.",
        )
    text = port or listen_port or str(DEFAULT_PORT)
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise SpecInvalid("SLIPWAY_PORT", f"{text!r} is not a port between 1 and 65535.")
    return host.strip("[]") or "127.0.0.1", int(text)
