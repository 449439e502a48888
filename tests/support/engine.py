"""An instance of the runtime of one's own: engine, launcher, image, network; nothing of it may stay behind."""

from __future__ import annotations

import dataclasses
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from runtime.engine import Engine
from runtime.kernel.constants import MNT_DETACH
from runtime.kernel.syscalls import mount, umount
from runtime.model.image import ImageRecord
from runtime.model.spec import ContainerSpec, EndpointSpec, NetworkSpec
from runtime.model.state import Observed, Status
from runtime.store.logs import read_logs
from runtime.store.paths import Config
from tests.support.naming import instance_name
from tests.support.processes import read_process
from tests.support.specs import container
from tests.support.waiting import PATIENCE, wait_until

CHECKOUT = Path(__file__).resolve().parent.parent.parent


class Instance:
    """Use as a context manager; leaving it removes every container and asserts that nothing is left."""

    def __init__(self, *, disk: str = "") -> None:
        """`disk` puts the root on a tmpfs of that size ("8m"), for tests that fill it."""
        self._directory = tempfile.TemporaryDirectory(prefix="slw-", dir="/tmp")
        base = Path(self._directory.name)
        self.config = Config(base / "root", base / "run", instance_name())
        self.config.root.mkdir()
        self.config.run.mkdir()
        self._disk = disk
        if disk:
            mount("tmpfs", str(self.config.root), "tmpfs", 0, f"size={disk},mode=755")
        self.engine = Engine(self.config)
        self.launcher: subprocess.Popen[bytes] | None = None
        self._image: ImageRecord | None = None
        self._networks: list[NetworkSpec] = []
        self._addresses = iter(range(2, 250))

    def __enter__(self) -> Instance:
        self.start_launcher()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._tear_down()
        finally:
            self._stop_launcher(signal.SIGTERM)
            # A monitor answers before it exits: give the last one its moment.
            deadline = time.monotonic() + 3
            while (left := self.leftovers()) and time.monotonic() < deadline:
                time.sleep(0.01)
            self.engine.cgroups.remove_root()
            self.engine.networks.clean()
            self.engine.close()
            if self._disk:
                umount(str(self.config.root), MNT_DETACH)
            self._directory.cleanup()
        assert left == [], left

    def _tear_down(self) -> None:
        for container_id in self.engine.bundles.ids():
            self.engine.remove(container_id, force=True)
        for network in self._networks:
            self.engine.networks.remove(network.id)

    # -- launcher -----------------------------------------------------------------------------

    def start_launcher(self) -> None:
        environment = {
            **os.environ,
            "SLIPWAY_ROOT": str(self.config.root),
            "SLIPWAY_RUN": str(self.config.run),
            "SLIPWAY_NAME": self.config.name,
        }
        self.launcher = subprocess.Popen(
            [sys.executable, "-m", "runtime.launcher"], env=environment, cwd=CHECKOUT
        )
        wait_until(self._launcher_answers, what="the launcher's socket")

    def _launcher_answers(self) -> bool:
        assert self.launcher is not None
        assert self.launcher.poll() is None, "the launcher died"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(str(self.config.launcher_socket)) == 0

    def kill_launcher(self) -> None:
        self._stop_launcher(signal.SIGKILL)

    def _stop_launcher(self, number: signal.Signals) -> None:
        if self.launcher is None:
            return
        self.launcher.send_signal(number)
        self.launcher.wait(timeout=10 * PATIENCE)
        self.launcher = None

    # -- objects ------------------------------------------------------------------------------

    @property
    def image(self) -> ImageRecord:
        if self._image is None:
            self._image = self.engine.images.starter()
        return self._image

    def network(self, **changes: Any) -> NetworkSpec:
        """A network with a random subnet, up."""
        subnet = f"10.{200 + secrets.randbelow(50)}.{secrets.randbelow(256)}"
        spec = NetworkSpec(
            id=secrets.token_hex(32),
            name=f"net-{secrets.token_hex(3)}",
            subnet=f"{subnet}.0/24",
            gateway=f"{subnet}.1",
        )
        spec = dataclasses.replace(spec, **changes)
        self.engine.networks.ensure(spec)
        self._networks.append(spec)
        return spec

    def endpoint(self, network: NetworkSpec, **changes: Any) -> EndpointSpec:
        last = next(self._addresses)
        prefix = network.gateway.rpartition(".")[0]
        made = EndpointSpec(
            network_id=network.id,
            address=f"{prefix}.{last}",
            prefix_length=24,
            gateway=network.gateway,
            mac_address="02:" + ":".join(f"{b:02x}" for b in secrets.token_bytes(5)),
        )
        return dataclasses.replace(made, **changes)

    def spec(self, *args: str, network: NetworkSpec | None = None, **changes: Any) -> ContainerSpec:
        """A valid specification of a container from the starter image."""
        endpoints = (self.endpoint(network),) if network is not None else ()
        values = {"endpoints": endpoints, "image": self.image.id, "stop_timeout": 1, **changes}
        return container(*args, **values)

    def shell(self, script: str, **changes: Any) -> ContainerSpec:
        return self.spec("sh", "-c", script, **changes)

    def create(self, spec: ContainerSpec) -> ContainerSpec:
        self.engine.create(spec)
        return spec

    def run(self, spec: ContainerSpec) -> ContainerSpec:
        """Create and start."""
        self.engine.create(spec)
        self.engine.start(spec.id)
        return spec

    # -- facts --------------------------------------------------------------------------------

    def status(self, spec: ContainerSpec) -> Status:
        return self.engine.observe(spec.id).status

    def wait_for(self, spec: ContainerSpec, status: Status, timeout: float = 10.0) -> Observed:
        return wait_until(
            lambda: o if (o := self.engine.observe(spec.id)).status == status else None,
            timeout=timeout,
            what=f"{spec.name} to be {status}",
        )

    def output(self, spec: ContainerSpec, stream: str = "stdout") -> str:
        lines = read_logs(self.engine.logs_dir(spec.id), streams={stream})
        return "\n".join(line.data.decode() for line in lines)

    def wait_for_output(self, spec: ContainerSpec, text: str) -> str:
        return wait_until(
            lambda: out if text in (out := self.output(spec)) else None, what=f"output {text!r}"
        )

    def check_nothing_left(self) -> None:
        """In a moment at the latest: what the launcher has just forked as a reserve has no name yet."""
        wait_until(lambda: not self.leftovers(), timeout=2, what=str(self.leftovers()))

    def leftovers(self) -> list[str]:
        """What of this instance's containers the kernel and the disk still hold."""
        found = [f"container {i}" for i in self.engine.bundles.ids()]
        found += [f"cgroup {i}" for i in self.engine.cgroups.container_ids()]
        found += [
            f"link {n}" for n in os.listdir("/sys/class/net") if n.startswith(self.config.tag)
        ]
        mounts = Path("/proc/self/mountinfo").read_text()
        found += [f"mount {m}" for m in mounts.splitlines() if f"{self.config.root}/" in m]
        found += [f"published {p}" for p in self.engine.networks.published()]
        found += [f"process {p}" for p in self.processes()]
        for directory in (self.config.tmp, self.config.containers, self.config.run / "containers"):
            if directory.is_dir():
                found += [str(p) for p in directory.iterdir()]
        return found

    def processes_of_containers(self) -> list[int]:
        return self.processes("containers/")

    def processes(self, group: str = "") -> list[int]:
        """Processes in this instance's groups: containers' and shims'.

        Without what a launcher has in reserve, and without the dead whom the host's init has yet to collect.
        """
        needle = f"/{self.config.cgroup}/{group}"
        # The launcher lives in the shims' group itself.
        known = {os.getpid(), self.launcher.pid if self.launcher is not None else 0}
        found = []
        for name in os.listdir("/proc"):
            process = read_process(name) if name.isdigit() and int(name) not in known else None
            if process is None or needle not in process.cgroups or process.waits_for_init:
                continue
            if process.name != "slw-spare" or self.launcher is None:
                found.append(process.pid)
        return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
