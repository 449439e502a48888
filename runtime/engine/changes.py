"""Changes to a container that exists, running or not: limits and restart policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypedDict, Unpack

from runtime.cgroups.manager import CgroupManager
from runtime.engine import running
from runtime.engine.lifecycle import require
from runtime.engine.observe import Observer
from runtime.engine.planning import rlimits_of
from runtime.engine.undo import Undo
from runtime.errors import NotFound, ShimLost, SpecInvalid, error_context
from runtime.kernel import standard
from runtime.model.codec import to_json
from runtime.model.spec import ContainerSpec, Limits, Restart, Ulimit
from runtime.model.state import RunState
from runtime.model.validate import validate_spec
from runtime.shim.client import ShimClient
from runtime.store.bundles import BundleStore
from runtime.store.paths import Config


class Wanted(TypedDict, total=False):
    """What an update changes; a part that is left out, or None, stays as it is.

    `limits` and `ulimits` are complete: what is not in them becomes unlimited.
    """

    limits: Limits | None
    restart: Restart | None
    ulimits: Sequence[Ulimit] | None
    shm_size: int | None  # bytes


class Changes:
    def __init__(
        self, config: Config, *, bundles: BundleStore, cgroups: CgroupManager, observer: Observer
    ) -> None:
        self._config = config
        self._bundles = bundles
        self._cgroups = cgroups
        self._observer = observer

    def update(self, container_id: str, **wanted: Unpack[Wanted]) -> ContainerSpec:
        """Replace limits and restart policy: all of it, or nothing when one value is refused. A running container follows at once, with every process that it has. Returns the
        new spec. Raises SpecInvalid or Unsupported with the field, BadState.
        """
        with (
            error_context("update", id=container_id),
            self._observer.locked(container_id),
        ):
            observed = self._observer.settled(container_id)
            require(observed, "update")
            spec = self._bundles.spec(container_id)
            ulimits, shm_size = wanted.get("ulimits"), wanted.get("shm_size")
            changed = dataclasses.replace(
                spec,
                limits=wanted.get("limits") or spec.limits,
                restart=wanted.get("restart") or spec.restart,
                process=spec.process
                if ulimits is None
                else dataclasses.replace(spec.process, ulimits=tuple(ulimits)),
                shm_size=spec.shm_size if shm_size is None else shm_size,
            )
            _check_shm(spec, changed)
            validate_spec(changed, made=True)
            self._cgroups.check(changed.limits)
            with Undo() as undo:
                if observed.status.is_active:
                    self._apply(spec, changed, observed.run, undo)
                # First, as this may be what failed: its last step comes after the new file is in place.
                undo.push(self._bundles.write_spec, spec)
                with error_context("update"):
                    self._bundles.write_spec(changed)
            return changed

    def enforce(self, container_id: str) -> None:
        """Have what runs follow the specification on disk, whatever an update that was cut short has changed."""
        with error_context("update", id=container_id), self._observer.locked(container_id):
            spec = self._bundles.spec(container_id)
            observed = self._observer.settled(container_id)
            if not observed.status.is_active:
                return
            self._cgroups.apply(spec.id, spec.limits)
            running.give_oom_score(self._pids(spec), spec.limits.oom_score_adj)
            if observed.run is not None:
                shim = observed.run.shim_pid
                running.give_ulimits(self._pids(spec), shim, (), spec.process.ulimits)
                if observed.run.pid and running.has_own_shm(spec):
                    running.resize_shm(observed.run, spec.shm_size, spec.shm_size)
            self._plan(spec)
            self._tell(spec)

    def _apply(
        self, spec: ContainerSpec, changed: ContainerSpec, run: RunState | None, undo: Undo
    ) -> None:
        """What can be taken back at any time comes first; `undo` knows how."""
        pids, score = self._pids(spec), changed.limits.oom_score_adj
        if score != spec.limits.oom_score_adj:
            undo.push(running.give_oom_score(pids, score))
        if changed.limits != spec.limits:
            self._cgroups.apply(spec.id, changed.limits)
            undo.push(self._cgroups.apply, spec.id, spec.limits)
        # Between two lives there is neither.
        if changed.shm_size != spec.shm_size and run is not None and run.pid:
            undo.push(running.resize_shm(run, spec.shm_size, changed.shm_size))
        before, wanted = spec.process.ulimits, changed.process.ulimits
        if wanted != before and run is not None:
            undo.push(running.give_ulimits(pids, run.shim_pid, before, wanted))
        undo.push(self._plan, spec)
        self._plan(changed)
        if changed.restart != spec.restart:
            undo.push(self._tell, spec)
            self._tell(changed)

    def _pids(self, spec: ContainerSpec) -> running.Pids:
        return self._cgroups.open(spec.id).pids

    def _plan(self, spec: ContainerSpec) -> None:
        """What its next life, and what is executed in it, begins with."""

        def edit(plan: dict[str, Any]) -> None:
            plan["oom_score_adj"] = spec.limits.oom_score_adj
            plan["rlimits"] = rlimits_of(spec)
            if running.has_own_shm(spec):
                for step in plan["mounts"]:
                    if step["target"] == running.SHM:
                        step["data"] = standard.shm_options(spec.shm_size)

        self._bundles.change_plan(spec.id, edit)

    def _tell(self, spec: ContainerSpec) -> None:
        try:
            ShimClient(self._config, spec.id).update(restart=to_json(spec.restart))
        except (ShimLost, NotFound):
            pass  # it has just ended: the policy holds from the next start


def _check_shm(spec: ContainerSpec, changed: ContainerSpec) -> None:
    if changed.shm_size != spec.shm_size and not running.has_own_shm(spec):
        raise SpecInvalid(
            "shm_size",
            f"The container has no {running.SHM} of its own.",
            hint="Its size is that of whose memory it shares, or of what is mounted there.",
        )
