"""Changes to a container that exists, running or not: limits and restart policy."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from pathlib import Path

from runtime.cgroups.manager import CgroupManager
from runtime.engine.lifecycle import require
from runtime.engine.observe import Observer
from runtime.engine.undo import Undo
from runtime.errors import EngineError, NotFound, ShimLost, SpecInvalid, error_context
from runtime.model.codec import to_json
from runtime.model.spec import ContainerSpec, Limits, Restart
from runtime.model.validate import validate_spec
from runtime.shim.client import ShimClient
from runtime.store.bundles import BundleStore
from runtime.store.paths import Config


class Changes:
    def __init__(
        self, config: Config, *, bundles: BundleStore, cgroups: CgroupManager, observer: Observer
    ) -> None:
        self._config = config
        self._bundles = bundles
        self._cgroups = cgroups
        self._observer = observer

    def update(
        self, container_id: str, limits: Limits | None = None, restart: Restart | None = None
    ) -> ContainerSpec:
        """Replace limits and restart policy: all of it, or nothing when one value is refused.

        None leaves a part as it is; `limits` is complete otherwise: what is None in it becomes
        unlimited. A running container follows at once. Returns the new spec. Raises SpecInvalid or
        Unsupported with the field, BadState.
        """
        with (
            error_context("update", id=container_id),
            self._observer.locked(container_id),
        ):
            observed = self._observer.settled(container_id)
            require(observed, "update")
            spec = self._bundles.spec(container_id)
            changed = dataclasses.replace(
                spec, limits=limits or spec.limits, restart=restart or spec.restart
            )
            validate_spec(changed)
            self._cgroups.check(changed.limits)
            with Undo() as undo:
                if observed.status.is_active:
                    self._apply(spec, changed)
                    undo.push(self._apply, changed, spec)
                # First, as this may be what failed: its last step comes after the new file is in place.
                undo.push(self._bundles.write_spec, spec)
                with error_context("update"):
                    self._bundles.write_spec(changed)
            return changed

    def enforce(self, container_id: str) -> None:
        """Have what runs follow the specification on disk, whatever an update that was cut short has changed."""
        with error_context("update", id=container_id), self._observer.locked(container_id):
            spec = self._bundles.spec(container_id)
            if self._observer.settled(container_id).status.is_active:
                self._cgroups.apply(spec.id, spec.limits)
                self._score(spec, spec.limits.oom_score_adj)
                self._tell(spec)

    def _apply(self, spec: ContainerSpec, changed: ContainerSpec) -> None:
        scored = changed.limits.oom_score_adj != spec.limits.oom_score_adj
        if scored:
            self._score(spec, changed.limits.oom_score_adj)
        try:
            if changed.limits != spec.limits:
                self._cgroups.apply(spec.id, changed.limits)
        except EngineError:
            if scored:
                self._score(spec, spec.limits.oom_score_adj)
            raise
        if changed.restart != spec.restart:
            self._tell(changed)

    def _tell(self, spec: ContainerSpec) -> None:
        try:
            ShimClient(self._config, spec.id).update(restart=to_json(spec.restart))
        except (ShimLost, NotFound):
            pass  # it has just ended: the policy holds from the next start

    def _score(self, spec: ContainerSpec, value: int) -> None:
        """Raises SpecInvalid, with every process as it was, when the kernel refuses one."""
        done: list[tuple[int, str]] = []
        for pid in self._cgroups.open(spec.id).pids():
            path = f"/proc/{pid}/oom_score_adj"
            try:
                before = Path(path).read_text(encoding="ascii")
                Path(path).write_text(str(value), encoding="ascii")
            except PermissionError as error:
                for other, old in done:
                    with suppress(OSError):
                        Path(f"/proc/{other}/oom_score_adj").write_text(old, encoding="ascii")
                raise SpecInvalid(
                    "limits.oom_score_adj",
                    f"This host does not let Slipway set an OOM score of {value}.",
                    hint="Lowering it requires CAP_SYS_RESOURCE.",
                ) from error
            except OSError:
                continue  # gone meanwhile; what is forked later inherits from those that remain
            done.append((pid, before))
