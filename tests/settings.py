"""The project's settings, pointed at throw-away directories: no test meets an instance of this host.

`SLIPWAY_TEST_DATABASE_URL` runs the database tests against another database than SQLite.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

_BASE = Path(tempfile.mkdtemp(prefix="slw-test-"))
_OWNER = os.getpid()


@atexit.register
def _remove_base() -> None:
    # A forked child inherits this handler, but not the directory.
    if os.getpid() == _OWNER:
        shutil.rmtree(_BASE, ignore_errors=True)


for _name in ("root", "run"):
    (_BASE / _name).mkdir()
(_BASE / "root" / "db").mkdir()
(_BASE / "root" / "spool").mkdir()
(_BASE / "root" / "secret-key").write_text("tests-only-" + "0" * 50)
(_BASE / "root" / "host-id").write_text("0123456789abcdef" * 2)

os.environ.update(
    SLIPWAY_ROOT=str(_BASE / "root"),
    SLIPWAY_RUN=str(_BASE / "run"),
    SLIPWAY_NAME="slipway-test",
    SLIPWAY_ALLOWED_HOSTS="testserver,localhost,127.0.0.1",
    DATABASE_URL=os.environ.get("SLIPWAY_TEST_DATABASE_URL", ""),
    REDIS_URL="",
)
for _name in ("DATABASE_URL", "REDIS_URL"):
    if not os.environ[_name]:
        del os.environ[_name]

from webui.settings import *  # noqa: E402, F403 - the environment comes first
from webui.settings import DATABASES  # noqa: E402

# Signing in is not what most tests measure.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
SOON = 0  # at once: what a test has changed is to be seen

# A thread that a test leaves behind must not hold the database open that is to be dropped.
DATABASES["default"]["CONN_MAX_AGE"] = 0

if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # A file, as in real life: threads of a test then lock each other as processes do.
    DATABASES["default"]["TEST"] = {"NAME": str(_BASE / "test.sqlite3")}
