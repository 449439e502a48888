"""What is true of a container, from disk and kernel; and putting right what a crash or reboot left.

| bundle | state.json            | shim            | result                                                |
|--------|-----------------------|-----------------|-------------------------------------------------------|
| no     | –                     | –               | NotFound, or UNKNOWN when the database knows it       |
| yes    | none, never started   | –               | CREATED                                               |
| yes    | none or of last boot  | –               | EXITED: its last record, or a new one, reason reboot  |
| yes    | of this boot, active  | alive           | as the state says                                     |
| yes    | of this boot, active  | dead            | group killed, network cleared, EXITED, shim_lost      |
| yes    | of this boot, ended   | any             | EXITED                                                |
"""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runtime.cgroups.manager import CgroupManager
from runtime.engine.planning import boot_id
from runtime.engine.wiring import Wiring
from runtime.errors import CreateFailed, EngineError, InitFailed, NotFound, error_context
from runtime.kernel import procfs
from runtime.model.state import ExitRecord, Observed, RunState, Status
from runtime.store.bundles import BundleStore
from runtime.store.files import read_json, write_json
from runtime.store.leftovers import sweep_doomed
from runtime.store.locks import discard, locked
from runtime.store.paths import Config

logger = logging.getLogger(__name__)

# Of the same kind as overlayfs' own marks, so every file system that can hold a container can hold it.
_ACTIVE = "trusted.slipway.active"
_FROZEN = "trusted.slipway.commit"  # by who commits it, not by who asked for a pause


class Observer:
    def __init__(
        self, config: Config, bundles: BundleStore, cgroups: CgroupManager, wiring: Wiring
    ) -> None:
        self._config = config
        self._bundles = bundles
        self._cgroups = cgroups
        self._wiring = wiring
        self._repaired = False  # networks were looked at once

    # -- one ----------------------------------------------------------------------------------

    def observe(self, container_id: str) -> Observed:
        """Status and state now. Raises NotFound when there is no bundle, KernelFailure when it cannot be told."""
        with error_context("observe", id=container_id):
            observed = self.look(container_id)
            if observed is None:
                # What a crash left needs work, under the lock; somebody else may have done it meanwhile.
                with self.locked(container_id):
                    return self.settled(container_id)
            return observed

    def settled(self, container_id: str) -> Observed:
        """As observe, for a caller that holds the container's lock."""
        observed = self.look(container_id)
        if observed is None:
            self._settle(container_id)
            observed = self.look(container_id)
        if observed is None:
            return Observed(
                container_id, Status.UNKNOWN, None, error="What it left could not be cleared."
            )
        return observed

    def steady(self, container_id: str) -> Observed:
        """As observe, when nobody is starting or removing it."""
        with self.locked(container_id):
            return self.settled(container_id)

    def is_fresh(self, observed: Observed) -> bool:
        """Whether no start of it has ever begun, so that there is nothing of an earlier life."""
        return observed.status == Status.CREATED and self.marker(observed.id) is None

    def look(self, container_id: str) -> Observed | None:
        """Without changing anything; None when a monitor or a boot has ended and nobody has noted it."""
        if not self._bundles.exists(container_id):
            raise NotFound(
                f"There is no container {container_id[:12]} on this host.", id=container_id
            )
        if cause := self.death(container_id):
            return Observed(container_id, Status.DEAD, None, error=cause)
        try:
            state = self._bundles.state(container_id)
        except EngineError as error:
            return Observed(container_id, Status.UNKNOWN, None, error=error.message)
        if state is None:
            return self._without_state(container_id)
        if state.boot_id != boot_id():
            return None
        if not state.status.is_active:
            return Observed(container_id, state.status, state)
        if procfs.is_alive(state.shim_pid, state.shim_start_time):
            return Observed(container_id, state.status, state)
        # It may have written its last state and gone between our two looks.
        latest = self._bundles.state(container_id)
        if latest is not None and not latest.status.is_active:
            return Observed(container_id, latest.status, latest)
        return None

    def has_ended(self, container_id: str) -> bool:
        """As `look` has it; True for one that was never started, or is gone."""
        try:
            observed = self.look(container_id)
        except NotFound:
            return True
        return observed is None or not observed.status.is_active

    def _without_state(self, container_id: str) -> Observed | None:
        marker = self.marker(container_id)
        if marker is not None:
            # Started, and its run directory is gone: the host went down (or it is just starting).
            return None if marker.get("boot_id") != boot_id() else self._from_exits(container_id)
        return self._from_exits(container_id)

    def _from_exits(self, container_id: str) -> Observed:
        exits = self._bundles.exits(container_id)
        if not exits:
            return Observed(container_id, Status.CREATED, None)
        return Observed(container_id, Status.EXITED, _ended(exits[-1]))

    # -- all ----------------------------------------------------------------------------------

    def observe_all(self) -> list[Observed]:
        """Every bundle on disk. One that cannot be read is UNKNOWN and hides no other."""
        return [self._safely(container_id) for container_id in self._bundles.ids()]

    def reconcile(self, known: set[str] | None) -> list[Observed]:
        """Every bundle, and every known id without one. `known` None: the database cannot be read.

        Bundles nobody knows are `managed=False`: listed, never removed. Groups without a bundle and
        without processes are removed, unless `known` is None.
        """
        self._repair_networks()
        sweep_doomed(self._config)
        ids = self._bundles.ids()
        result = [
            dataclasses.replace(self._safely(i), managed=known is None or i in known) for i in ids
        ]
        if known is not None:
            missing = sorted(known - set(ids))
            result += [
                Observed(i, Status.UNKNOWN, None, error="Its directory is not on this host.")
                for i in missing
            ]
            self._collect(missing)
        return result

    def _repair_networks(self) -> None:
        try:
            if self._wiring.repair():
                if self._repaired:
                    logger.warning("Bridges or firewall rules were missing; they are there now.")
                else:
                    # After a boot, and at the very first start, they have to be made.
                    logger.info("Bridges and firewall rules are made.")
            self._repaired = True
        except (EngineError, OSError) as error:
            logger.warning("The networks cannot be put right: %s", error)

    def _safely(self, container_id: str) -> Observed:
        try:
            return self.observe(container_id)
        except (EngineError, OSError, ValueError) as error:
            return Observed(container_id, Status.UNKNOWN, None, error=str(error))

    def _collect(self, missing: list[str]) -> None:
        """Groups of containers that are no more. One with processes in it is left for people to see."""
        groups = self._cgroups.container_ids()
        # Listed after the groups: a container that is being made has its bundle first.
        owned = {i[:32] for i in [*self._bundles.ids(), *missing]}
        for short in groups - owned:
            group = self._cgroups.open(short)
            try:
                if not group.pids():
                    group.remove()
            except (EngineError, OSError) as error:
                logger.warning("The groups of %s stay: %s", short, error)

    # -- after crashes ------------------------------------------------------------------------

    def _settle(self, container_id: str) -> None:
        state = self._bundles.state(container_id)
        marker = self.marker(container_id) or {}
        if state is not None and state.boot_id == boot_id():
            self._after_lost_shim(container_id, state)
        else:
            self._after_reboot(container_id, state, marker)
        self.unmark(container_id)

    def _after_lost_shim(self, container_id: str, state: RunState) -> None:
        group = self._cgroups.open(container_id)
        group.kill()
        group.remove()
        self.clear_host_side(container_id)
        exits = self._bundles.exits(container_id)
        if exits and exits[-1].finished_at >= state.started_at > 0:
            # It noted the end, and died before it could say so in its state.
            record = exits[-1]
        else:
            record = ExitRecord(
                code=None,
                reason="shim_lost",
                started_at=state.started_at,
                finished_at=time.time(),
                restart_count=state.restart_count,
                error="Its monitor died, so the container was killed; the exit code is unknown.",
            )
            self._bundles.append_exit(container_id, record)
        logger.warning("The monitor of container %s died.", container_id[:12])
        self._bundles.drop_monitor(container_id)
        self._bundles.write_state(container_id, _ended(record, user_stopped=state.user_stopped))

    def _after_reboot(
        self, container_id: str, state: RunState | None, marker: dict[str, Any]
    ) -> None:
        started = state.started_at if state is not None else float(marker.get("started_at", 0))
        record = self._final_before_reboot(container_id, state, started)
        if record is None:
            record = ExitRecord(
                code=None,
                reason="reboot",
                started_at=started,
                finished_at=time.time(),
                restart_count=state.restart_count if state is not None else 0,
                error="The host went down while it ran; the exit code is unknown.",
            )
            self._bundles.append_exit(container_id, record)
        user_stopped = state.user_stopped if state is not None else record.reason == "stopped"
        self._bundles.drop_run(container_id)
        self._bundles.write_state(container_id, _ended(record, user_stopped=user_stopped))

    def _final_before_reboot(
        self, container_id: str, state: RunState | None, started: float
    ) -> ExitRecord | None:
        """The record of an end after which nothing was running any more, if there is one."""
        if state is not None and not state.status.is_active and state.exit is not None:
            return state.exit
        exits = self._bundles.exits(container_id)
        if not exits or exits[-1].finished_at < started:
            return None
        last = exits[-1]
        policy = self._bundles.spec(container_id).restart.name
        came_back = policy in ("always", "unless-stopped") or (
            policy == "on-failure" and last.code != 0
        )
        return None if came_back and last.reason != "stopped" else last

    def complete_exits(self, observed: Observed) -> None:
        """Add the last end to those on record, when the disk did not take it from the monitor."""
        end = observed.run.exit if observed.run is not None else None
        if end is None:
            return
        last = self._bundles.last_exit(observed.id)
        if last is None or last.finished_at < end.finished_at:
            self._bundles.append_exit(observed.id, end)

    def clear_host_side(self, container_id: str, *, links: bool = True) -> None:
        """Network of a container without processes; what the kernel has dropped already is no error.

        `links=False` leaves the interfaces to the kernel (Wiring.forget).
        """
        try:
            # To read it takes as long as all the rest, and only the links' names are made of it.
            spec = self._bundles.spec(container_id) if links else None
        except EngineError:
            spec = None
        if spec is None:
            self._wiring.forget(container_id)
        elif spec.endpoints:
            self._wiring.disconnect(spec)

    def note_failure(self, container_id: str, error: EngineError, started: float) -> None:
        """What a failed start leaves to see: an exit with the code that `docker run` would have."""
        cause = error.error if isinstance(error, CreateFailed) else error
        record = ExitRecord(
            code=cause.exit_code if isinstance(cause, InitFailed) else 128,
            reason="start_failed",
            started_at=started,
            finished_at=time.time(),
            error=error.message,
        )
        try:
            self._bundles.append_exit(container_id, record)
            # No policy starts again what could not start.
            self._bundles.write_state(container_id, _ended(record, user_stopped=True))
        except OSError as failure:
            logger.warning("The failed start of %s is not noted: %s", container_id[:12], failure)

    # -- notes in the bundle ------------------------------------------------------------------

    def mark(self, container_id: str) -> None:
        """Note on disk that it runs from now on: what tells a reboot from a clean end.

        An attribute of the bundle's directory, as a file would cost an inode at each start. Without
        fsync: a crash of the host within seconds of the start may lose it, and the container is then
        shown as it was before that start.
        """
        note = {"boot_id": boot_id(), "started_at": time.time()}
        os.setxattr(self._config.bundle(container_id), _ACTIVE, json.dumps(note).encode())

    def unmark(self, container_id: str) -> None:
        self._drop(container_id, _ACTIVE)

    def mark_frozen(self, container_id: str) -> None:
        """Note on disk that it is about to be frozen for a while, and not to stay so."""
        os.setxattr(self._config.bundle(container_id), _FROZEN, boot_id().encode())

    def unmark_frozen(self, container_id: str) -> None:
        """It has run on or ended, or somebody has asked that it be frozen."""
        self._drop(container_id, _FROZEN)

    def is_marked_frozen(self, container_id: str) -> bool:
        """Whether `mark_frozen` was the latest word, in this boot."""
        try:
            note = os.getxattr(self._config.bundle(container_id), _FROZEN)
        except OSError:
            return False
        return note == boot_id().encode()

    def _drop(self, container_id: str, name: str) -> None:
        try:
            os.removexattr(self._config.bundle(container_id), name)
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.ENOENT):
                raise

    def marker(self, container_id: str) -> dict[str, Any] | None:
        try:
            value = json.loads(os.getxattr(self._config.bundle(container_id), _ACTIVE))
        except (OSError, ValueError):
            return None
        return value if isinstance(value, dict) else None

    def mark_dead(self, container_id: str, error: str) -> None:
        """A removal failed half-way: it can only be removed from now on."""
        write_json(self._note(container_id, "dead.json"), {"error": error})

    def death(self, container_id: str) -> str:
        try:
            return str(read_json(self._note(container_id, "dead.json"))["error"])
        except FileNotFoundError:
            return ""
        except (ValueError, KeyError, TypeError):
            return "A removal failed."

    def _note(self, container_id: str, name: str) -> Path:
        return self._config.bundle(container_id) / name

    @contextmanager
    def locked(self, container_id: str) -> Iterator[int]:
        """Hold the container's lock; its descriptor is for a process that is to hold it as well.

        The file goes with the container: one that is not there has none.
        """
        path = self._config.locks / f"{container_id}.lock"
        with locked(path) as fd:
            try:
                yield fd
            finally:
                if not self._bundles.exists(container_id):
                    discard(path)


def _ended(record: ExitRecord, *, user_stopped: bool | None = None) -> RunState:
    return RunState(
        status=Status.EXITED,
        boot_id=boot_id(),
        started_at=record.started_at,
        finished_at=record.finished_at,
        restart_count=record.restart_count,
        exit=record,
        user_stopped=record.reason == "stopped" if user_stopped is None else user_stopped,
    )
