"""Changes to a container that exists, running or not: limits and restart policy."""

from __future__ import annotations

import dataclasses

from runtime.cgroups.manager import CgroupManager
from runtime.engine.lifecycle import require
from runtime.engine.observe import Observer
from runtime.errors import NotFound, ShimLost, error_context
from runtime.model.codec import to_json
from runtime.model.spec import ContainerSpec, Limits, Restart
from runtime.model.state import Status
from runtime.model.validate import validate_limits, validate_spec
from runtime.shim.client import ShimClient
from runtime.store.bundles import BundleStore
from runtime.store.locks import locked
from runtime.store.paths import Config


class Changes:
    def __init__(
        self, config: Config, *, bundles: BundleStore, cgroups: CgroupManager, observer: Observer
    ) -> None:
        self._config = config
        self._bundles = bundles
        self._cgroups = cgroups
        self._observer = observer

    def limits(self, container_id: str, limits: Limits) -> ContainerSpec:
        """Replace the limits: all of them, or none when the host refuses one. Returns the new spec.

        `limits` is complete: what is None becomes unlimited. Raises SpecInvalid or Unsupported with the
        field, BadState.
        """
        with (
            error_context("update", id=container_id),
            locked(self._observer.lock_path(container_id)),
        ):
            observed = self._observer.settled(container_id)
            require(observed, "update")
            spec = self._bundles.spec(container_id)
            validate_limits(limits)
            self._cgroups.check(limits)
            changed = dataclasses.replace(spec, limits=limits)
            if observed.status.is_active:
                self._cgroups.apply(container_id, limits)
                if limits.oom_score_adj != spec.limits.oom_score_adj:
                    self._score(container_id, limits.oom_score_adj)
            self._bundles.write_spec(changed)
            return changed

    def restart(self, container_id: str, policy: Restart) -> ContainerSpec:
        """Replace the restart policy; a running container's monitor follows it from now on."""
        with (
            error_context("update", id=container_id),
            locked(self._observer.lock_path(container_id)),
        ):
            observed = self._observer.settled(container_id)
            require(observed, "update")
            changed = dataclasses.replace(self._bundles.spec(container_id), restart=policy)
            validate_spec(changed)
            self._bundles.write_spec(changed)
            if observed.status in (Status.RUNNING, Status.PAUSED, Status.RESTARTING):
                try:
                    ShimClient(self._config, container_id).update(restart=to_json(policy))
                except (ShimLost, NotFound):
                    pass  # it has just ended: the policy holds from the next start
            return changed

    def _score(self, container_id: str, value: int) -> None:
        for pid in self._cgroups.open(container_id).pids():
            try:
                with open(f"/proc/{pid}/oom_score_adj", "w", encoding="ascii") as file:
                    file.write(str(value))
            except OSError:
                continue  # gone meanwhile; what is forked later inherits from those that remain
