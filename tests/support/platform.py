"""A whole platform of one's own: `./slipway up` in a root, run directory, name and port that nobody else has."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from runtime.store.paths import Config
from tests.support.answers import Answers
from tests.support.naming import instance_name

CHECKOUT = Path(__file__).resolve().parent.parent.parent
_READY = "Slipway is up:"


class PlatformFailed(AssertionError):
    """The platform did not do what was asked; the message ends with its last log lines."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Platform:
    """Started with `start()`, ended with `stop()` (containers go on) or `destroy()` (nothing is left)."""

    def __init__(self, *, environment: Mapping[str, str] | None = None) -> None:
        self.name = instance_name()
        self.base = Path(tempfile.mkdtemp(prefix="slw-e2e-", dir="/var/tmp"))
        # Web is another user, and must come through.
        self.base.chmod(0o755)
        self.root = self.base / "root"
        self.run = Path("/run") / f"slw-{self.name}"
        self.port = free_port()
        self.log_file = self.base / "up.log"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLIPWAY_", "PYTHON"))}
        for name in ("DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE"):
            kept.pop(name, None)
        self.env = kept | {
            "SLIPWAY_ROOT": str(self.root),
            "SLIPWAY_RUN": str(self.run),
            "SLIPWAY_NAME": self.name,
            "SLIPWAY_PORT": str(self.port),
            **(environment or {}),
        }
        self.process: subprocess.Popen[bytes] | None = None
        self._password = ""
        self._clients: list[httpx.Client] = []

    @property
    def config(self) -> Config:
        return Config(root=self.root, run=self.run, name=self.name)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    # -- the command --------------------------------------------------------------------------

    def start(self, timeout: float = 60.0) -> float:
        """`./slipway up`; returns the seconds until the page answered."""
        before = len(self.log)
        began = time.monotonic()
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                ["./slipway", "up"],
                cwd=CHECKOUT,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        while _READY not in self.log[before:]:
            if self.process.poll() is not None:
                raise PlatformFailed(f"`slipway up` ended at once:\n{self.log[before:]}")
            if time.monotonic() - began > timeout:
                raise PlatformFailed(f"Not up within {timeout} s:\n{self.log[before:][-4000:]}")
            time.sleep(0.01)
        return time.monotonic() - began

    def stop(self) -> None:
        """Ctrl-C."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(timeout=60)

    def slipway(self, *arguments: str, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["./slipway", *arguments],
            cwd=CHECKOUT,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def status(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads(self.slipway("status", "--json").stdout)
        return facts

    def pid(self, process: str) -> int:
        """The pid of one of the platform's processes; 0 while it is down."""
        pid: int = self.status()["processes"][process]["pid"]
        return pid

    def destroy(self) -> None:
        """End everything and remove every trace, whatever state the platform is in."""
        for client in self._clients:
            client.close()
        try:
            self.slipway("down", "--containers")
        finally:
            if self.process and self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            for directory in (self.base, self.run):
                shutil.rmtree(directory, ignore_errors=True)

    # -- accounts -----------------------------------------------------------------------------

    @property
    def password(self) -> str:
        """The admin's, which the first start printed."""
        if not self._password:
            found = re.search(r"[Pp]assword:?\s+(\S+)", self.log)
            if not found:
                raise PlatformFailed(f"No password was printed:\n{self.log}")
            self._password = found.group(1)
        return self._password

    def browser_session(self) -> httpx.Client:
        """A client signed in as a browser is: with a session cookie, sending the CSRF token."""
        client = httpx.Client(base_url=self.url, timeout=60.0, follow_redirects=True)
        self._clients.append(client)
        client.get("/login/")
        token = client.cookies["slipway_csrf"]
        answer = client.post(
            "/login/",
            data={
                "username": "admin",
                "password": self.password,
                "csrfmiddlewaretoken": token,
            },
            headers={"Referer": f"{self.url}/login/"},
        )
        answer.raise_for_status()
        if "slipway_session" not in client.cookies:
            raise PlatformFailed("Signing in with the printed password did not work.")
        client.headers["X-CSRFToken"] = client.cookies["slipway_csrf"]
        client.headers["Referer"] = f"{self.url}/"
        return client

    def api(self) -> Api:
        """A client with a token of its own."""
        made = self.slipway("manage", "create_token", "admin", "--name", "tests")
        token = made.stdout.strip()
        if made.returncode or not token:
            raise PlatformFailed(f"No token: {made.stdout}{made.stderr}")
        described = Answers(httpx.get(f"{self.url}/api/v1/openapi.json").json())
        api = Api(self.url, token, described)
        self._clients.append(api.http)
        return api


class Api:
    """REST with a bearer token over one kept-alive connection; answers are JSON."""

    def __init__(self, url: str, token: str, described: Answers | None = None) -> None:
        """What comes must be as `described`, if that is given."""
        self.token = token
        self._described = described
        self.http = httpx.Client(
            base_url=f"{url}/api/v1",
            headers={"Authorization": f"Bearer {token}"},
            timeout=90.0,
        )

    def call(self, method: str, path: str, *, expect: int | None = None, **kwargs: Any) -> Any:
        """The JSON of the answer; `expect` is its status, by default any that is a success."""
        answer = self.http.request(method, path, **kwargs)
        good = answer.status_code == expect if expect else answer.is_success
        if not good:
            raise PlatformFailed(f"{method} {path}: {answer.status_code} {answer.text[:2000]}")
        body = answer.json() if answer.content else None
        if self._described is not None:
            self._described.check(method, f"/api/v1{path}", answer.status_code, body)
        return body

    def get(self, path: str, **kwargs: Any) -> Any:
        return self.call("GET", path, **kwargs)

    def post(self, path: str, body: Any = None, **kwargs: Any) -> Any:
        """Waits for the operation's end."""
        return self.call("POST", path, json=body, params={"wait": "true"}, **kwargs)

    def delete(self, path: str, *, force: bool = False, **kwargs: Any) -> Any:
        params = {"wait": "true"} | ({"force": "true"} if force else {})
        return self.call("DELETE", path, params=params, **kwargs)

    def close(self) -> None:
        self.http.close()
