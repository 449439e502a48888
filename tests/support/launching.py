"""The launcher and its shims alone: no engine, no network, a root file system of busybox' own links."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from runtime.cgroups.manager import DEVICE_RULES, CgroupManager
from runtime.engine.etc import write_etc_files
from runtime.engine.planning import device_rules, make_plan
from runtime.engine.volumes import VolumeManager
from runtime.kernel import procfs
from runtime.launcher.client import LauncherClient
from runtime.model.plan import Plan
from runtime.model.spec import Namespaces
from runtime.model.state import ExitRecord, RunState
from runtime.shim.client import ShimClient
from runtime.snapshots import mount_points, prepare
from runtime.store.bundles import BundleStore
from runtime.store.logs import read_logs
from runtime.store.paths import Config
from tests.support.naming import instance_name
from tests.support.specs import container
from tests.support.waiting import PATIENCE, wait_until

CHECKOUT = Path(__file__).resolve().parent.parent.parent
PASSWD = """root:x:0:0:root:/root:/bin/sh
app:x:1234:567:An application:/home/app:/bin/sh
1234567:x:77:88::/:/bin/sh
"""
GROUP = "root:x:0:\napp:x:567:\naudio:x:29:app,other\nvideo:x:44:other,app\nplugdev:x:46:other\n"


def make_rootfs(directory: Path) -> Path:
    """A directory with busybox, its commands as links, and a user called app."""
    for name in ("bin", "etc", "root", "home/app", "tmp"):
        (directory / name).mkdir(parents=True)
    busybox = directory / "bin" / "busybox"
    busybox.write_bytes(Path("/bin/busybox").read_bytes())
    busybox.chmod(0o755)
    names = subprocess.run(["/bin/busybox", "--list"], capture_output=True, check=True, text=True)
    for name in names.stdout.split():
        if name != "busybox":
            (directory / "bin" / name).symlink_to("busybox")
    (directory / "etc" / "passwd").write_text(PASSWD)
    (directory / "etc" / "group").write_text(GROUP)
    (directory / "tmp").chmod(0o1777)
    return directory


class Launchpad:
    """Starts containers by their plans. Leaving it ends them and asserts that nothing is left."""

    def __init__(self, root: str = "/tmp", run: str = "/run") -> None:
        """Where its directories are made: benchmarks choose a file system in memory."""
        self._directory = tempfile.TemporaryDirectory(prefix="slw-", dir=root)
        self._run = tempfile.TemporaryDirectory(prefix="slw-", dir=run)
        base = Path(self._directory.name)
        self.config = Config(base / "root", Path(self._run.name), instance_name())
        self.config.containers.mkdir(parents=True)
        self.rootfs = make_rootfs(self.config.root / "rootfs")
        self.cgroups = CgroupManager(self.config)
        self.launcher: subprocess.Popen[bytes] | None = None
        self._ids: list[str] = []

    def __enter__(self) -> Launchpad:
        self.start_launcher()
        return self

    def __exit__(self, *_: object) -> None:
        for container_id in self._ids:
            self.cgroups.open(container_id).thaw()
            self.cgroups.open(container_id).kill()
        try:
            for pid in self.shims():
                # A shim that would restart its container; most have ended by now.
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not self.processes(), what="every process of the test to be gone")
        finally:
            if self.launcher is not None:
                self.stop_launcher(signal.SIGTERM)
            wait_until(lambda: not self.processes(spares=True), what="the spare to be gone")
            for container_id in self._ids:
                self.cgroups.open(container_id).remove()
            self.cgroups.remove_root()
            mounts = Path("/proc/self/mountinfo").read_text()
            assert str(self.config.root) not in mounts
            self._directory.cleanup()
            self._run.cleanup()

    # -- launcher -----------------------------------------------------------------------------

    def start_launcher(self) -> None:
        self.launcher = subprocess.Popen(
            [sys.executable, "-S", "-m", "runtime.launcher"],
            env={
                "PATH": os.environ["PATH"],
                "SLIPWAY_ROOT": str(self.config.root),
                "SLIPWAY_RUN": str(self.config.run),
                "SLIPWAY_NAME": self.config.name,
            },
            cwd=CHECKOUT,
            stdout=subprocess.DEVNULL,
        )
        wait_until(self.answers, what="the launcher's socket")

    def answers(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(str(self.config.launcher_socket)) == 0

    def stop_launcher(self, number: signal.Signals) -> None:
        assert self.launcher is not None
        self.launcher.send_signal(number)
        self.launcher.wait(timeout=10 * PATIENCE)
        self.launcher = None

    # -- containers ---------------------------------------------------------------------------

    def plan(self, *args: str, plan: dict[str, Any] | None = None, **spec: Any) -> Plan:
        """A plan as the engine makes it, for a container without a network; `plan` overrides it."""
        made = container(
            *args, **{"namespaces": Namespaces(network="none"), "stop_timeout": 5, **spec}
        )
        bundle = self.config.bundle(made.id)
        bundle.mkdir()
        self._ids.append(made.id)
        rules = device_rules(made, DEVICE_RULES)
        cgroup = self.cgroups.create(made.id, made.limits, device_rules=rules)
        write_etc_files(made, self.config)
        result = make_plan(
            made,
            config=self.config,
            layers=[mount_points(self.config), self.rootfs],
            snapshot=prepare(self.config, made.id),
            volumes=VolumeManager(self.config, BundleStore(self.config)),
            cgroup=cgroup,
            networks={},
            pid_of=lambda _: 0,
        )
        return {**result, **(plan or {})}  # type: ignore[typeddict-item]

    def shell(self, script: str, **options: Any) -> Plan:
        return self.plan("sh", "-c", script, **options)

    def start(self, plan: Plan) -> RunState:
        with LauncherClient(self.config).start(plan) as session:
            if plan["wait_for_network"]:
                session.wait_netns()
                session.go()
            return session.wait_running()

    def shim(self, plan: Plan) -> ShimClient:
        return ShimClient(self.config, plan["id"])

    def wait(self, plan: Plan, timeout: float = 10.0) -> ExitRecord:
        """Its end, also when it has ended already."""
        wait_until(lambda: not self.socket(plan).exists(), timeout=timeout, what="the last exit")
        return self.exits(plan)[-1]

    def run(self, plan: Plan) -> tuple[ExitRecord, str]:
        """Start, wait for the end: its exit and what it wrote to stdout."""
        self.start(plan)
        return self.wait(plan), self.output(plan)

    def socket(self, plan: Plan) -> Path:
        return self.config.container_run(plan["id"]) / "shim.sock"

    def exits(self, plan: Plan) -> list[ExitRecord]:
        return BundleStore(self.config).exits(plan["id"])

    def output(self, plan: Plan, *streams: str) -> str:
        logs = self.config.bundle(plan["id"]) / "logs"
        lines = read_logs(logs, streams=streams or ("stdout",))
        return "\n".join(line.data.decode(errors="replace") for line in lines)

    def wait_for_output(self, plan: Plan, text: str) -> str:
        return wait_until(
            lambda: out if text in (out := self.output(plan)) else None, what=f"output {text!r}"
        )

    # -- facts --------------------------------------------------------------------------------

    def processes(self, below: str = "", *, spares: bool = False) -> list[int]:
        """Processes in this instance's groups, the launcher aside, and what it keeps in reserve."""
        needle = f"/{self.config.cgroup}/{below}"
        launcher = 0 if self.launcher is None else self.launcher.pid
        found = []
        for pid in (int(n) for n in os.listdir("/proc") if n.isdigit()):
            try:
                groups = Path(f"/proc/{pid}/cgroup").read_text()
                spare = Path(f"/proc/{pid}/comm").read_text() == "slw-spare\n"
            except OSError:
                continue
            ours = needle in groups and pid != launcher and (spares or not spare)
            if ours and procfs.start_time(pid):
                found.append(pid)
        return found

    def spares(self) -> list[int]:
        """The processes of the shim in reserve; its init is the one in a pid namespace of its own."""
        return [p for p in self.processes(spares=True) if p not in self.processes()]

    def wait_for_init_in_reserve(self) -> int:
        own = os.readlink("/proc/self/ns/pid")

        def found() -> int | None:
            for pid in self.spares():
                with suppress(OSError):  # it has just ended
                    ready = sorted(os.listdir(f"/proc/{pid}/root")) == ["dev", "proc", "sys"]
                    if ready and os.readlink(f"/proc/{pid}/ns/pid") != own:
                        return pid
            return None

        return wait_until(found, what="init in reserve")

    def shims(self) -> list[int]:
        return [p for p in self.processes("shims") if p not in self.processes("containers")]


@contextmanager
def launchpad() -> Iterator[Launchpad]:
    with Launchpad() as made:
        yield made


def milliseconds(since: float) -> float:
    return (time.perf_counter() - since) * 1000
