"""The one door to the runtime: what workers call. Every method takes ids and specs, raises EngineError."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Unpack

from runtime.cgroups.manager import CgroupManager
from runtime.engine.attaching import Attaching
from runtime.engine.changes import Changes, Wanted
from runtime.engine.commit import Commits
from runtime.engine.diff import Change
from runtime.engine.diff import changes as upper_changes
from runtime.engine.execs import ExecRequest, Execs
from runtime.engine.files import Files
from runtime.engine.gauges import Gauges
from runtime.engine.joining import Joining
from runtime.engine.layers import MergedTree
from runtime.engine.lifecycle import Lifecycle, Trace
from runtime.engine.measure import Meter
from runtime.engine.moving import Moving
from runtime.engine.observe import Observer
from runtime.engine.removal import Removal
from runtime.engine.saving import Saving
from runtime.engine.top import processes
from runtime.engine.volumes import VolumeManager
from runtime.engine.wiring import Wiring
from runtime.errors import EngineError
from runtime.images import ImageStore
from runtime.model.spec import ContainerSpec
from runtime.model.state import ExitRecord, Observed, RunState
from runtime.model.stats import HostSample, ProcessRow, StatsSample
from runtime.network import NetworkManager
from runtime.shim.attach_session import AttachSession
from runtime.shim.client import ExecSession
from runtime.snapshots import WritableUsage, mount_points
from runtime.snapshots import usage as snapshot_usage
from runtime.store import leftovers
from runtime.store.bundles import BundleStore
from runtime.store.paths import Config

logger = logging.getLogger(__name__)


class Engine:
    """Containers of one instance on this host. Safe to use from several threads and processes."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.images = ImageStore(config)
        self.networks = NetworkManager(config)
        self.bundles = BundleStore(config)
        self.cgroups = CgroupManager(config)
        self.volumes = VolumeManager(config, self.bundles)
        wiring = Wiring(self.networks)
        self._observer = Observer(config, self.bundles, self.cgroups, wiring)
        self._removal = Removal(
            config,
            bundles=self.bundles,
            volumes=self.volumes,
            cgroups=self.cgroups,
            observer=self._observer,
        )
        self._lifecycle = Lifecycle(
            config,
            bundles=self.bundles,
            images=self.images,
            volumes=self.volumes,
            cgroups=self.cgroups,
            wiring=wiring,
            observer=self._observer,
            removal=self._removal,
        )
        self._changes = Changes(
            config, bundles=self.bundles, cgroups=self.cgroups, observer=self._observer
        )
        self.joining = Joining(config, bundles=self.bundles, wiring=wiring, observer=self._observer)
        self.moving = Moving(bundles=self.bundles, networks=self.networks, observer=self._observer)
        self._execs = Execs(config, self.bundles, self._observer)
        self._attaching = Attaching(config, self._observer)
        self.files = Files(
            config,
            bundles=self.bundles,
            images=self.images,
            volumes=self.volumes,
            observer=self._observer,
        )
        self.commits = Commits(
            config, bundles=self.bundles, images=self.images, observer=self._observer
        )
        self.saving = Saving(self.images)
        self._meter = Meter(config, cgroups=self.cgroups)
        self._gauges = Gauges(bundles=self.bundles, cgroups=self.cgroups, wiring=wiring)

    # -- actions: see Lifecycle, Removal and Changes for what each raises ---------------------------------

    def create(self, spec: ContainerSpec, *, durable: bool = True) -> None:
        self._lifecycle.create(spec, durable=durable)

    def start(self, container_id: str, *, trace: Trace | None = None) -> RunState:
        return self._lifecycle.start(container_id, trace)

    def stop(
        self,
        container_id: str,
        *,
        signal: str | int | None = None,
        timeout: float | None = None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> ExitRecord | None:
        return self._lifecycle.stop(
            container_id, signal=signal, timeout=timeout, meanwhile=meanwhile
        )

    def kill(self, container_id: str, signal: str | int = "SIGKILL") -> None:
        self._lifecycle.kill(container_id, signal)

    def pause(self, container_id: str) -> None:
        self._lifecycle.pause(container_id)

    def unpause(self, container_id: str) -> None:
        self._lifecycle.unpause(container_id)

    def restart(
        self, container_id: str, timeout: float | None = None, *, signal: str | int | None = None
    ) -> RunState:
        return self._lifecycle.restart(container_id, timeout, signal=signal)

    def remove(self, container_id: str, *, force: bool = False, volumes: bool = False) -> None:
        self._removal.remove(container_id, force=force, volumes=volumes)

    def take_back(self, spec: ContainerSpec) -> None:
        self._lifecycle.take_back(spec)

    def wait(self, container_id: str, timeout: float | None = None) -> ExitRecord | None:
        return self._lifecycle.wait(container_id, timeout)

    def cleanup(self, container_id: str) -> None:
        self._lifecycle.cleanup(container_id)

    def rename(self, container_id: str, name: str) -> None:
        self._lifecycle.rename(container_id, name)

    def update(self, container_id: str, **wanted: Unpack[Wanted]) -> ContainerSpec:
        return self._changes.update(container_id, **wanted)

    def enforce(self, container_id: str) -> None:
        self._changes.enforce(container_id)

    def exec(self, container_id: str, request: ExecRequest) -> ExecSession:
        return self._execs.start(container_id, request)

    def attach(self, container_id: str, *, stdin: bool = False) -> AttachSession:
        return self._attaching.attach(container_id, stdin=stdin)

    def resize(self, container_id: str, rows: int, columns: int) -> None:
        self._attaching.resize(container_id, rows, columns)

    # -- facts ----------------------------------------------------------------------------------

    def inspect(self, container_id: str) -> ContainerSpec:
        """The specification on disk. Raises NotFound."""
        return self.bundles.spec(container_id)

    def observe(self, container_id: str) -> Observed:
        return self._observer.observe(container_id)

    def has_ended(self, container_id: str) -> bool:
        """Whether nothing of it runs or is about to be restarted. Changes nothing and never blocks."""
        return self._observer.has_ended(container_id)

    def observe_all(self) -> list[Observed]:
        return self._observer.observe_all()

    def reconcile(self, known_ids: set[str] | None) -> list[Observed]:
        return self._observer.reconcile(known_ids)

    def sweep(self) -> None:
        """Remove or finish what a process that was killed had half made; for one that begins in its place."""
        for path in leftovers.sweep(self.config):
            logger.info("Removed %s, which nobody will finish.", path)
        for volume in self.volumes.list():
            try:
                self.volumes.settle(volume.name)
            except EngineError:
                # Whoever mounts it tries again, and is told.
                logger.exception("Volume %s is filled in part.", volume.name)

    def close(self) -> None:
        """Give back the sockets that the networks hold, and the files of samples."""
        self.networks.close()
        self._gauges.close()

    def exits(self, container_id: str) -> list[ExitRecord]:
        return self.bundles.exits(container_id)

    def logs_dir(self, container_id: str) -> Path:
        return self.config.bundle(container_id) / "logs"

    # -- readings -------------------------------------------------------------------------------

    def stats(self, container_id: str) -> StatsSample:
        """One reading of a container. Raises NotFound when it does not run."""
        return self._gauges.read(container_id)

    def stats_of(self, ids: Collection[str]) -> list[StatsSample]:
        """One reading of each that runs: cheaper than one after the other."""
        return self._gauges.read_all(ids)

    def host_sample(self) -> HostSample:
        return self._meter.host()

    def host_facts(self) -> dict[str, Any]:
        return self._meter.facts()

    def network_facts(self) -> dict[str, Any]:
        """What of this host's network concerns containers: {"host_subnets": […], "blocking_chains": […],
        "sysctl_changes": [{"name", "before", "after", "reason"}]}.
        """
        return {
            "host_subnets": [
                *sorted(set(self.networks.host_subnets())),
                *sorted(set(self.networks.host_subnets6())),
            ],
            "blocking_chains": list(self.networks.blocking_chains()),
            "sysctl_changes": [asdict(change) for change in self.networks.sysctl_changes()],
        }

    def name_of(self, container_id: str) -> str:
        """Its name as its files say, "" when they do not."""
        try:
            return self.bundles.spec(container_id).name
        except EngineError:
            return ""

    def top(self, container_id: str) -> list[ProcessRow]:
        return processes(container_id, self.cgroups, self._observer)

    def changes(self, container_id: str) -> Iterator[Change]:
        """What it has changed outside its volumes. Walks its writable layer. Raises NotFound."""
        image = self.bundles.spec(container_id).image
        lower = MergedTree([mount_points(self.config), *self.images.layer_dirs(image)])
        return upper_changes(self.config.bundle(container_id) / "upper", lower)

    def writable_usage(self, container_id: str) -> WritableUsage:
        """What the container has written outside its volumes. Walks its writable layer."""
        return snapshot_usage(self.config, container_id)
