"""A Redis of the test's own, on a unix socket, that can be killed and started again."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.waiting import wait_until
from workers.supervisor.processes import redis_executable


class PrivateRedis:
    """Nothing on disk, no port. `url` as settings spell it."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "redis.sock"
        self.url = f"unix://{self.socket}?db=0"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "dir": str(self._directory),
            "save": "",
            "appendonly": "no",
            "loglevel": "warning",
        }
        argv = ["redis-server"]
        for name, value in options.items():
            argv += [f"--{name}", value]
        self._process = subprocess.Popen(
            argv, executable=redis_executable(), stdout=subprocess.DEVNULL
        )
        wait_until(self._answers, what="Redis answers")

    def kill(self) -> None:
        """SIGKILL: what was in it is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


@pytest.fixture
def private_redis() -> Iterator[PrivateRedis]:
    """A running Redis; import this fixture where it is used."""
    if not os.path.exists(redis_executable()):
        pytest.skip("needs Debian's redis-tools")
    directory = Path(tempfile.mkdtemp(prefix="slw-redis-", dir="/tmp"))
    server = PrivateRedis(directory)
    server.start()
    yield server
    server.kill()
    shutil.rmtree(directory, ignore_errors=True)
