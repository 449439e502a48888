"""The end of a container: all that it has on this host, in an order in which each step can be repeated."""

from __future__ import annotations

import logging
import signal as signals
from contextlib import suppress

from runtime.cgroups.manager import CgroupManager
from runtime.engine.holders import what_holds
from runtime.engine.observe import Observer
from runtime.engine.volumes import VolumeManager
from runtime.errors import BadState, EngineError, NotFound, VolumeInUse, error_context
from runtime.model.spec import ContainerSpec
from runtime.shim.client import ShimClient
from runtime.snapshots import remove as remove_snapshot
from runtime.store.bundles import BundleStore
from runtime.store.paths import Config

logger = logging.getLogger(__name__)


class Removal:
    def __init__(
        self,
        config: Config,
        *,
        bundles: BundleStore,
        volumes: VolumeManager,
        cgroups: CgroupManager,
        observer: Observer,
    ) -> None:
        self._config = config
        self._bundles = bundles
        self._volumes = volumes
        self._cgroups = cgroups
        self._observer = observer

    def remove(self, container_id: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove it with its writable layer; named volumes stay, anonymous ones go with `volumes`.

        With `force` an active container is killed first. When something resists, the container is DEAD
        and can be removed again. Raises NotFound, BadState, KernelFailure ….
        """
        with error_context("remove", id=container_id):
            observed = self._observer.steady(container_id)
            if observed.status.is_active:
                if not force:
                    raise BadState(
                        "remove",
                        observed.status,
                        observed.status.actions,
                        hint="Stop it first, or remove it by force.",
                    )
                self._end(container_id)
            with self._observer.locked(container_id):
                self.clear(container_id, volumes=volumes)

    def _end(self, container_id: str) -> None:
        try:
            ShimClient(self._config, container_id).stop(int(signals.SIGKILL), 0)
        except EngineError as error:
            logger.info("Container %s is ended by its group: %s", container_id[:12], error)

    def clear(self, container_id: str, *, volumes: bool) -> None:
        """Remove one that does not run, for a caller that holds its lock. Raises KernelFailure …, as `remove`."""
        try:
            spec: ContainerSpec | None = self._bundles.spec(container_id)
        except NotFound:
            return
        except EngineError:
            spec = None  # corrupt: what can be found by id alone goes
        try:
            group = self._cgroups.open(container_id)
            group.kill()
            group.remove()
            self._observer.clear_host_side(container_id)
            self._bundles.drop_run(container_id)
            remove_snapshot(self._config, container_id)
        except (EngineError, OSError) as error:
            self._observer.mark_dead(container_id, self._what_holds(container_id, error))
            raise
        self._bundles.remove(container_id)
        if volumes and spec is not None:
            for mount in spec.mounts:
                if mount.anonymous:
                    with suppress(VolumeInUse):  # another container has it from this one
                        self._volumes.remove(mount.source)

    def _what_holds(self, container_id: str, error: Exception) -> str:
        try:
            pids = self._cgroups.open(container_id).pids()
            return what_holds(error, self._config.bundle(container_id), pids)
        except (EngineError, OSError):
            return str(error)  # what kept the removal from its end may keep us from looking
