"""The engines side by side: each is started privately, given the same image, and asked the same things."""

from __future__ import annotations

import atexit
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Protocol

from benchmarks.measure import processes, with_descendants
from tests.support.platform import Platform

IMAGE = "bench/busybox:latest"
_KEPT_ALIVE = 60.0  # seconds; servers close a connection that is idle for longer


class Peer(Protocol):
    """An engine under measurement. `start_container` and `round_trip` are what is timed."""

    name: str

    def version(self) -> str: ...
    def start_container(self, port: int) -> str:
        """Create and start `sleep` with one published port; returns when its process runs."""

    def round_trip(self) -> None:
        """Create, start and await `true`, then remove it."""

    def remove(self, container: str) -> None: ...
    def run(self, script: str) -> str:
        """Create and start a shell with `script`, without ports; returns when its process runs."""

    def stop(self, container: str) -> None:
        """Ask it to end, and return when it has."""

    def await_end(self, container: str) -> None: ...
    def execute(self, container: str) -> None:
        """Run `true` in it and return with its exit code."""

    def pids(self) -> set[int]:
        """The processes of the engine itself; the containers' own are not among them."""

    def close(self) -> None: ...


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self._path)


def _ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: Any = None,
    headers: dict[str, str] | None = None,
) -> Any:
    """One request on a kept-alive connection; raises RuntimeError when the answer is an error."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body)
    kind = {} if body is None else {"Content-Type": "application/json"}
    connection.request(method, path, data, kind | (headers or {}))
    answer = connection.getresponse()
    text = answer.read()
    if answer.status >= 400:
        raise RuntimeError(f"{method} {path}: {answer.status} {text[:500]!r}")
    try:
        return json.loads(text)
    except ValueError:
        return None


class Slipway:
    """REST with a token on one connection; `?wait=true` answers when init has exec'ed."""

    name = "Slipway"

    def __init__(self, image_tar: Path) -> None:
        self.platform = Platform()
        self.start_seconds = self.platform.start(timeout=180)
        api = self.platform.api()
        with image_tar.open("rb") as file:
            api.call(
                "POST",
                "/images/import",
                params={"wait": "true"},
                data={"reference": IMAGE},
                files={"file": ("image.tar", file)},
            )
        self._headers = {"Authorization": f"Bearer {api.token}"}
        self._connection = http.client.HTTPConnection("127.0.0.1", self.platform.port, timeout=60)
        self._asked = time.monotonic()

    def version(self) -> str:
        return str(self.platform.status()["versions"]["slipway"])

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        if time.monotonic() - self._asked > _KEPT_ALIVE:
            self._connection.close()  # it is opened again by itself
        answer = _ask(self._connection, method, f"/api/v1{path}", body, self._headers)
        self._asked = time.monotonic()
        return answer

    def start_container(self, port: int) -> str:
        row = self._ask(
            "POST",
            "/containers?wait=true",
            {
                "image": IMAGE,
                "command": ["sleep", "3600"],
                "ports": [f"{port}:80"],
                "start": True,
            },
        )
        return str(row["id"])

    def round_trip(self) -> None:
        row = self._ask(
            "POST", "/containers?wait=true", {"image": IMAGE, "command": ["true"], "start": True}
        )
        # The log ends when the process does.
        self._ask("GET", f"/containers/{row['id']}/logs?follow=true")
        self._ask("DELETE", f"/containers/{row['id']}?wait=true&force=true")

    def remove(self, container: str) -> None:
        self._ask("DELETE", f"/containers/{container}?wait=true&force=true")

    def run(self, script: str) -> str:
        body = {"image": IMAGE, "command": ["sh", "-c", script], "init": False, "start": True}
        return str(self._ask("POST", "/containers?wait=true", body)["id"])

    def stop(self, container: str) -> None:
        self._ask("POST", f"/containers/{container}/stop?wait=true")

    def await_end(self, container: str) -> None:
        self._ask("POST", f"/containers/{container}/wait")

    def execute(self, container: str) -> None:
        done = self._ask("POST", f"/containers/{container}/exec", {"command": ["true"]})
        assert done["exit_code"] == 0, done

    def pids(self) -> set[int]:
        facts = self.platform.status()
        own = {facts["pid"]} | {p["pid"] for p in facts["processes"].values() if p["pid"]}
        shims, inits = set(), set()
        for path in (self.platform.run / "containers").glob("*/state.json"):
            run = json.loads(path.read_text())
            shims.add(run["shim_pid"])
            inits.add(run["pid"])
        return with_descendants(own | shims) - with_descendants(inits)

    def close(self) -> None:
        self.platform.destroy()


class _Private:
    """A directory and a network namespace for a peer, so that it meets nothing of this host."""

    def __init__(self, name: str) -> None:
        self.base = Path(tempfile.mkdtemp(prefix=f"slw-bench-{name}-", dir="/var/tmp"))
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        atexit.register(self.holder.kill)
        host = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{self.holder.pid}/ns/net") == host:
            time.sleep(0.01)
        self.inside = ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net", "--"]
        subprocess.run([*self.inside, "ip", "link", "set", "lo", "up"], check=True)

    def remove(self) -> None:
        self.holder.kill()
        self.holder.wait()
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            target = line.split()[1]
            if target.startswith(str(self.base)):
                subprocess.run(["umount", "-l", target], check=False)
        shutil.rmtree(self.base, ignore_errors=True)


class Docker:
    """Docker Engine over its own API on its unix socket."""

    name = "Docker Engine"

    def __init__(self, image_tar: Path) -> None:
        self._private = _Private("docker")
        base = self._private.base
        (base / "daemon.json").write_text("{}")
        log = (base / "log").open("wb")
        self._daemon = subprocess.Popen(
            [
                *self._private.inside,
                "dockerd",
                f"--data-root={base}/data",
                f"--exec-root={base}/exec",
                f"--pidfile={base}/pid",
                f"--host=unix://{base}/docker.sock",
                f"--config-file={base}/daemon.json",
                "--cgroup-parent=/slw-bench-docker",
            ],
            stdout=log,
            stderr=log,
        )
        deadline = time.monotonic() + 60
        while not (base / "docker.sock").exists():
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"dockerd did not start:\n{(base / 'log').read_text()[-2000:]}")
            time.sleep(0.1)
        self._connection = _UnixConnection(base / "docker.sock")
        repository, _, tag = IMAGE.partition(":")
        self._ask(
            "POST",
            f"/images/create?fromSrc=-&repo={repository}&tag={tag}",
            image_tar.read_bytes(),
        )

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        return _ask(self._connection, method, path, body)

    def version(self) -> str:
        return str(self._ask("GET", "/version")["Version"])

    def start_container(self, port: int) -> str:
        made = self._ask(
            "POST",
            "/containers/create",
            {
                "Image": IMAGE,
                "Cmd": ["sleep", "3600"],
                "ExposedPorts": {"80/tcp": {}},
                "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": str(port)}]}},
            },
        )
        self._ask("POST", f"/containers/{made['Id']}/start")
        return str(made["Id"])

    def round_trip(self) -> None:
        made = self._ask("POST", "/containers/create", {"Image": IMAGE, "Cmd": ["true"]})
        self._ask("POST", f"/containers/{made['Id']}/start")
        self._ask("POST", f"/containers/{made['Id']}/wait")
        self._ask("DELETE", f"/containers/{made['Id']}")

    def remove(self, container: str) -> None:
        self._ask("DELETE", f"/containers/{container}?force=true")

    def run(self, script: str) -> str:
        made = self._ask(
            "POST",
            "/containers/create",
            {
                "Image": IMAGE,
                "Cmd": ["sh", "-c", script],
                # As much as Slipway keeps.
                "HostConfig": {
                    "LogConfig": {
                        "Type": "json-file",
                        "Config": {"max-size": "10m", "max-file": "3"},
                    }
                },
            },
        )
        self._ask("POST", f"/containers/{made['Id']}/start")
        return str(made["Id"])

    def stop(self, container: str) -> None:
        self._ask("POST", f"/containers/{container}/stop")

    def await_end(self, container: str) -> None:
        self._ask("POST", f"/containers/{container}/wait")

    def execute(self, container: str) -> None:
        body = {"Cmd": ["true"], "AttachStdout": True, "AttachStderr": True}
        made = self._ask("POST", f"/containers/{container}/exec", body)
        # The answer ends with the process.
        self._ask("POST", f"/exec/{made['Id']}/start", {"Detach": False, "Tty": False})
        done = self._ask("GET", f"/exec/{made['Id']}/json")
        assert done["ExitCode"] == 0, done

    def stats_stream(self, container: str) -> socket.socket:
        """A connection on which a sample comes each second."""
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stream.connect(str(self._private.base / "docker.sock"))
        path = f"/containers/{container}/stats?stream=true"
        stream.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return stream

    def pids(self) -> set[int]:
        """The daemon and its children, and the shims, which name its directory."""
        marker = str(self._private.base)
        shims = {
            pid
            for pid, (_, command) in processes().items()
            if "containerd-shim" in command[0] and any(marker in word for word in command)
        }
        return with_descendants([self._daemon.pid]) | shims

    def close(self) -> None:
        self._daemon.send_signal(signal.SIGTERM)
        try:
            self._daemon.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._daemon.kill()
        self._private.remove()
        _remove_cgroups("slw-bench-docker")


# Podman would raise the limits of open files and processes, which needs CAP_SYS_RESOURCE.
_LOW_LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096")


class Podman:
    """podman's command, as it has no daemon; its containers leave one conmon each."""

    name = "podman"

    def __init__(self, image_tar: Path) -> None:
        self._private = _Private("podman")
        base = self._private.base
        self._command = [
            *self._private.inside,
            "podman",
            f"--root={base}/root",
            f"--runroot={base}/run",
            f"--tmpdir={base}/tmp",
            f"--network-config-dir={base}/networks",
            "--cgroup-manager=cgroupfs",
            "--events-backend=file",
            "--storage-driver=overlay",
        ]
        self._run("import", "--quiet", str(image_tar), IMAGE)

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._command, *arguments], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"podman {arguments[0]}: {done.stderr[-1500:]}")
        return done.stdout.strip()

    def version(self) -> str:
        return self._run("version", "--format", "{{.Client.Version}}")

    def start_container(self, port: int) -> str:
        return self._run(
            "run", "--detach", *_LOW_LIMITS, "--publish", f"{port}:80", IMAGE, "sleep", "3600"
        )

    def round_trip(self) -> None:
        self._run("run", "--rm", *_LOW_LIMITS, IMAGE, "true")

    def remove(self, container: str) -> None:
        self._run("rm", "--force", "--time", "0", container)

    def run(self, script: str) -> str:
        return self._run("run", "--detach", *_LOW_LIMITS, IMAGE, "sh", "-c", script)

    def stop(self, container: str) -> None:
        self._run("stop", container)

    def await_end(self, container: str) -> None:
        self._run("wait", container)

    def execute(self, container: str) -> None:
        self._run("exec", container, "true")

    def pids(self) -> set[int]:
        marker = str(self._private.base)
        return {
            pid
            for pid, (_, command) in processes().items()
            if command[0].endswith("conmon") and any(marker in word for word in command)
        }

    def close(self) -> None:
        try:
            self._run("rm", "--all", "--force", "--time", "0")
        finally:
            self._private.remove()


def _remove_cgroups(name: str) -> None:
    for top in Path("/sys/fs/cgroup").glob(f"*/{name}"):
        for directory, _, _ in os.walk(top, topdown=False):
            try:
                os.rmdir(directory)
            except OSError:
                pass
