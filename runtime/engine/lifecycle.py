"""Create, start, stop, remove: the actions on one container, each under its lock, each repeatable."""

from __future__ import annotations

import dataclasses
import logging
import signal as signals
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from runtime.cgroups.manager import DEVICE_RULES, CgroupManager
from runtime.engine.etc import write_etc_files
from runtime.engine.host_checks import check_against_host
from runtime.engine.observe import Observer
from runtime.engine.planning import device_rules, make_plan
from runtime.engine.removal import Removal
from runtime.engine.undo import Undo
from runtime.engine.volumes import VolumeManager
from runtime.engine.wiring import Wiring
from runtime.errors import (
    AlreadyExists,
    BadState,
    EngineError,
    NotFound,
    ShimLost,
    error_context,
)
from runtime.images import ImageStore
from runtime.launcher.client import LauncherClient, StartSession
from runtime.model.parse import parse_signal
from runtime.model.spec import ContainerSpec, Mount
from runtime.model.state import Action, ExitRecord, Observed, RunState, Status
from runtime.model.validate import validate_spec
from runtime.shim.client import ShimClient
from runtime.snapshots import mount_points
from runtime.snapshots import prepare as prepare_snapshot
from runtime.store.bundles import BundleStore
from runtime.store.paths import Config

logger = logging.getLogger(__name__)

KILL_TIMEOUT = 10.0  # seconds until a killed process is gone; one stuck in the kernel takes longer
Trace = Callable[[str], None]  # called with the name of each stage of a start as it ends


class Lifecycle:
    def __init__(
        self,
        config: Config,
        *,
        bundles: BundleStore,
        images: ImageStore,
        volumes: VolumeManager,
        cgroups: CgroupManager,
        wiring: Wiring,
        observer: Observer,
        removal: Removal,
    ) -> None:
        self._config = config
        self._bundles = bundles
        self._images = images
        self._volumes = volumes
        self._cgroups = cgroups
        self._wiring = wiring
        self._observer = observer
        self._removal = removal

    # -- create -------------------------------------------------------------------------------

    def create(self, spec: ContainerSpec, *, durable: bool = True) -> None:
        """Make the container, not running. Again with the same spec: nothing happens.

        `durable=False` leaves it to `start`, which must follow, to wait for the disk beside its other work.

        Raises SpecInvalid, Unsupported, NotFound (image, network), AlreadyExists, StorageFull; nothing
        is left behind then.
        """
        validate_spec(spec)
        with error_context("create", id=spec.id), self._locked(spec.id):
            if self._bundles.is_blank(spec.id):
                self._bundles.remove(spec.id)
            if self._bundles.exists(spec.id):
                if self._bundles.spec(spec.id) == spec:
                    self._give_missing_volumes(spec)
                    return
                raise AlreadyExists(f"A container with the id {spec.short_id} exists already.")
            check_against_host(
                spec, self._config, images=self._images, cgroups=self._cgroups, wiring=self._wiring
            )
            layers = self._images.layer_dirs(spec.image)
            with Undo() as undo:
                for mount in spec.mounts:
                    if mount.type == "volume":
                        undo.push(self._volumes.take_back, mount.source, spec.id)
                        self._give_volume(spec, mount, layers)
                self._bundles.create(spec, durable=durable)
                undo.push(self._bundles.remove, spec.id)
                self._give_missing_volumes(spec)
                prepare_snapshot(self._config, spec.id)

    def _give_missing_volumes(self, spec: ContainerSpec) -> None:
        """Another creation that failed may have taken back what it had made, until this container had its bundle."""
        for mount in spec.mounts:
            if mount.type == "volume" and not self._volumes.exists(mount.source):
                self._give_volume(spec, mount, self._images.layer_dirs(spec.image))

    def _give_volume(self, spec: ContainerSpec, mount: Mount, layers: list[Path]) -> None:
        self._volumes.create_for(mount.source, spec.id)
        if not mount.nocopy and not mount.subpath:
            self._volumes.fill(mount.source, layers, mount.target)

    def take_back(self, spec: ContainerSpec) -> None:
        """After a creation that was given up: no container, and no volume that only it made.

        Raises BadState when the container has been started.
        """
        with error_context("create", id=spec.id), self._locked(spec.id):
            if self._bundles.exists(spec.id):
                observed = self._observer.settled(spec.id)
                if observed.status != Status.CREATED:
                    raise BadState("take back", observed.status, ())
                self._removal.clear(spec.id, volumes=False)
            for mount in spec.mounts:
                if mount.type == "volume":
                    self._volumes.take_back(mount.source, spec.id)

    # -- start --------------------------------------------------------------------------------

    def start(self, container_id: str, trace: Trace | None = None) -> RunState:
        """Start it and return when its process has been executed; nothing happens when it runs.

        Raises InitFailed (with the exit code `docker run` would give), PortInUse, BadState, NotFound,
        KernelFailure …; the host is then as before, and the failure is the container's last exit.
        """
        note = trace or (lambda stage: None)
        with error_context("start", id=container_id), self._locked(container_id):
            observed = self._observer.settled(container_id)
            if observed.status in (Status.RUNNING, Status.RESTARTING) and observed.run is not None:
                return observed.run
            require(observed, "start")
            note("observe")
            spec = self._bundles.spec(container_id)
            started = time.time()
            try:
                with error_context("start"):
                    state = self._start(spec, note, fresh=self._observer.is_fresh(observed))
            except EngineError as error:
                # A launcher that is away for a moment says nothing about the container.
                if not error.retryable:
                    self._observer.note_failure(spec.id, error, started)
                with suppress(OSError):  # the other error says more
                    self._bundles.sync(spec.id)
                raise
            return state

    def _start(self, spec: ContainerSpec, note: Trace, *, fresh: bool) -> RunState:
        if not fresh:
            self._clear(spec)
        networks = self._wiring.networks_of(spec)
        self._wiring.check_current(spec, networks)
        layers = [mount_points(self._config), *self._images.layer_dirs(spec.image)]
        snapshot = prepare_snapshot(self._config, spec.id)
        for mount in spec.mounts:
            if mount.type == "volume":
                self._volumes.settle(mount.source)
        note("prepare")
        with Undo() as undo:
            # Before all else: without it the next start finds nothing to clear.
            self._observer.mark(spec.id)
            undo.push(self._observer.unmark, spec.id)
            # The plan, with the container's environment, may be there.
            undo.push(self._bundles.drop_run, spec.id)
            self._wiring.prepare(networks)
            note("networks")
            with error_context("cgroup"):
                group = self._cgroups.create(
                    spec.id, spec.limits, device_rules=device_rules(spec, DEVICE_RULES)
                )
            undo.push(self._cgroups.open(spec.id).remove)
            undo.push(self._cgroups.open(spec.id).kill)
            note("cgroup")
            write_etc_files(spec, self._config)
            plan = make_plan(
                spec,
                config=self._config,
                layers=layers,
                snapshot=snapshot,
                volumes=self._volumes,
                cgroup=group,
                networks=networks,
                pid_of=self._pid_of,
            )
            note("plan")
            session = LauncherClient(self._config).start(plan)
            undo.push(self._give_up, session, spec.id)
            if plan["wait_for_network"]:
                pid = session.wait_netns()
                note("fork")
                self._wiring.connect(spec, pid, undo)
                session.go()
                note("wire")
            # Beside init, which builds its root file system.
            self._bundles.sync(spec.id)
            state = session.wait_running()
            note("exec")
        session.close()
        return state

    def _give_up(self, session: StartSession, container_id: str) -> None:
        """Leave nothing of a start that has failed on our side: the container may run already."""
        session.give_up()
        # Or its policy would start it again, and its monitor stay when its group and its files are gone.
        shim = ShimClient(self._config, container_id)
        with suppress(NotFound, ShimLost):
            shim.kill(signals.SIGKILL)
            shim.wait(KILL_TIMEOUT)

    def _pid_of(self, container_id: str) -> int:
        observed = self._observer.observe(container_id)
        if observed.status != Status.RUNNING or observed.run is None:
            raise BadState(
                "join",
                observed.status,
                (),
                hint=f"Start container {container_id[:12]} first.",
                other=container_id,
            )
        return observed.run.pid

    # -- stop ---------------------------------------------------------------------------------

    def stop(
        self,
        container_id: str,
        *,
        signal: str | int | None = None,
        timeout: float | None = None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> ExitRecord | None:
        """Ask it to end, kill it after `timeout` seconds; None when it never ran, its last end when it
        does not run. Blocks until it is gone; `meanwhile` is called once it has been asked.
        """
        number = None if signal is None else parse_signal(signal)
        with error_context("stop", id=container_id):
            observed = self._observer.steady(container_id)
            if not observed.status.is_active:
                return observed.run.exit if observed.run is not None else None
            try:
                record = ShimClient(self._config, container_id).stop(
                    number, timeout, meanwhile=meanwhile
                )
            except (ShimLost, NotFound):
                return self._after_loss(container_id)
            # Its network namespace goes with its monitor. Whoever else is in that keeps it, until the watcher looks.
            self.cleanup(container_id, links=False)
            return record

    def kill(self, container_id: str, signal: str | int = "SIGKILL") -> None:
        """Send a signal to its first process. After SIGKILL, returns when it is gone."""
        number = parse_signal(signal)
        with error_context("kill", id=container_id):
            require(self._observer.steady(container_id), "kill")
            shim = ShimClient(self._config, container_id)
            try:
                shim.kill(number)
                if number == signals.SIGKILL:
                    shim.wait(KILL_TIMEOUT)
            except (ShimLost, NotFound):
                self._after_loss(container_id)

    def restart(
        self, container_id: str, timeout: float | None = None, *, signal: str | int | None = None
    ) -> RunState:
        self.stop(container_id, signal=signal, timeout=timeout)
        return self.start(container_id)

    def pause(self, container_id: str) -> None:
        """Freeze every process; nothing happens when they are frozen."""
        with error_context("pause", id=container_id):
            observed = self._observer.steady(container_id)
            if observed.status != Status.PAUSED:
                require(observed, "pause")
                ShimClient(self._config, container_id).pause()
            self._observer.unmark_frozen(container_id)

    def unpause(self, container_id: str) -> None:
        with error_context("unpause", id=container_id):
            observed = self._observer.steady(container_id)
            if observed.status != Status.RUNNING:
                require(observed, "unpause")
                ShimClient(self._config, container_id).unpause()
            self._observer.unmark_frozen(container_id)

    def wait(self, container_id: str, timeout: float | None = None) -> ExitRecord | None:
        """Its last end; None when `timeout` seconds pass first, or when it never ran."""
        observed = self._observer.steady(container_id)
        if observed.status.is_active:
            try:
                return ShimClient(self._config, container_id).wait(timeout)
            except (ShimLost, NotFound):
                return self._after_loss(container_id)
        return observed.run.exit if observed.run is not None else None

    def _after_loss(self, container_id: str) -> ExitRecord | None:
        """The shim went while we talked to it: it ended in good order, or it was lost."""
        observed = self._observer.observe(container_id)
        if observed.status.is_active:
            raise ShimLost(f"The monitor of container {container_id[:12]} does not answer.")
        return observed.run.exit if observed.run is not None else None

    # -- after the end ------------------------------------------------------------------------

    def cleanup(self, container_id: str, *, links: bool = True) -> None:
        """Take the host's side of an ended container away; nothing happens while it is active.

        `links` as Observer.clear_host_side has it.

        Works without a bundle too: then what carries the id is taken away.
        """
        with error_context("cleanup", id=container_id), self._locked(container_id):
            try:
                observed = self._observer.settled(container_id)
            except NotFound:
                self._wiring.forget(container_id)
                self._cgroups.open(container_id).remove()
                return
            if not observed.status.is_active:
                self._observer.clear_host_side(container_id, links=links)
                self._cgroups.open(container_id).remove()
                self._bundles.drop_monitor(container_id)
                self._observer.complete_exits(observed)
                self._observer.unmark_frozen(container_id)
                self._observer.unmark(container_id)

    def _clear(self, spec: ContainerSpec) -> None:
        """What an earlier life or a crash half-way through a start has left."""
        group = self._cgroups.open(spec.id)
        if group.exists():
            group.kill()
            group.remove()
        if spec.endpoints:
            self._wiring.disconnect(spec)
        self._bundles.drop_run(spec.id)
        self._bundles.trim_exits(spec.id)
        self._observer.unmark_frozen(spec.id)

    # -- change -------------------------------------------------------------------------------

    def rename(self, container_id: str, name: str) -> None:
        """Give it a name that the database has accepted; a running one answers to it at once."""
        with error_context("rename", id=container_id), self._locked(container_id):
            spec = self._bundles.spec(container_id)
            if spec.name == name:
                return
            changed = dataclasses.replace(spec, name=name)
            validate_spec(changed, made=True)
            active = self._observer.settled(container_id).status.is_active
            with Undo() as undo:
                if active:
                    undo.push(self._wiring.renamed, changed, spec.name)
                undo.push(self._bundles.write_spec, spec)
                self._bundles.write_spec(changed)
                if active:
                    self._wiring.renamed(spec, name)

    def _locked(self, container_id: str) -> AbstractContextManager[int]:
        return self._observer.locked(container_id)


def require(observed: Observed, action: Action) -> None:
    """Raise BadState unless the status allows the action."""
    if not observed.status.allows(action):
        raise BadState(
            action,
            observed.status,
            observed.status.actions,
            **({"reason": observed.error} if observed.error else {}),
        )
