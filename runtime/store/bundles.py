"""A container's directory: its specification, its exits, and beside it in `run` its state.

`spec.json` exists in every whole bundle: one is made under `Config.tmp` and renamed into place.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from runtime.errors import AlreadyExists, EngineError, NotFound
from runtime.model.codec import from_json, to_json
from runtime.model.spec import ContainerSpec
from runtime.model.state import ExitRecord, RunState
from runtime.store.files import fsync, read_json, write_atomic, write_json
from runtime.store.leftovers import doom, give_up, half_made
from runtime.store.paths import Config

SPEC_VERSION = 1
KEPT_EXITS = 100
_EXITS_SIZE = 4 * KEPT_EXITS * 256  # bytes; a record has about 256
_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)


class BundleStore:
    def __init__(self, config: Config) -> None:
        self._config = config
        self._directory = str(config.containers)

    # -- bundles ------------------------------------------------------------------------------

    def ids(self) -> list[str]:
        """Ids of all bundles on disk; raises OSError when the directory cannot be read."""
        try:
            names = os.listdir(self._config.containers)
        except FileNotFoundError:
            return []
        return sorted(n for n in names if _ID.fullmatch(n))

    def exists(self, container_id: str) -> bool:
        return os.path.exists(self._config.bundle(container_id) / "spec.json")

    def create(self, spec: ContainerSpec, *, durable: bool = True) -> Path:
        """Make the bundle, whole or not at all. Raises AlreadyExists, OSError.

        `durable=False` is for who calls `sync` before anybody is told.
        """
        target = self._config.bundle(spec.id)
        if target.exists():
            raise AlreadyExists(f"A container with the id {spec.short_id} exists already.")
        half = self._config.tmp / half_made("bundle")
        try:
            half.mkdir(mode=0o711)
        except FileNotFoundError:  # the first of this instance
            half.mkdir(mode=0o711, parents=True)
        if not self._config.containers.exists():
            # Programs of a container's root may be setuid, and root's on disk: no user of the host comes near them.
            self._config.containers.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            write_json(half / "spec.json", to_json(spec), mode=0o600, durable=False)
            if durable:
                fsync(half / "spec.json")
            os.rename(half, target)
        except BaseException:
            give_up(self._config, half)
            raise
        return target

    def sync(self, container_id: str) -> None:
        """Wait for the disk to have the specification, when it has not yet. Raises OSError.

        What is there after a crash of the host is whole then; that it is there takes the file system's next
        commit. A start should not wait for two of them.
        """
        fsync(self._config.bundle(container_id) / "spec.json")

    def is_blank(self, container_id: str) -> bool:
        """The host went down before `sync`: there is a file, and nothing in it."""
        try:
            data = (self._config.bundle(container_id) / "spec.json").read_bytes()
        except FileNotFoundError:
            return False
        return not data.strip(b"\0")

    def spec(self, container_id: str) -> ContainerSpec:
        """Raises NotFound, or EngineError when the file is corrupt or from a newer version."""
        path = self._config.bundle(container_id) / "spec.json"
        try:
            data = read_json(path)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(
                f"There is no container {container_id[:12]} on this host.", id=container_id
            ) from None
        except ValueError as error:
            raise EngineError(
                f"The specification of container {container_id[:12]} is corrupt: {error}.",
                hint="Remove the container and create it again.",
                path=str(path),
            ) from error
        version = data.get("version") if isinstance(data, dict) else None
        if version != SPEC_VERSION:
            raise EngineError(
                f"The specification of container {container_id[:12]} has version {version!r}; "
                f"this program reads {SPEC_VERSION}.",
                hint="Update the program.",
                path=str(path),
            )
        return from_json(ContainerSpec, data)

    def written(self, container_id: str) -> int:
        """When its specification was last written, in nanoseconds; 0 when there is none."""
        try:
            # Asked each second of each container that is watched: a Path takes longer than the kernel.
            return os.stat(f"{self._directory}/{container_id}/spec.json").st_mtime_ns
        except FileNotFoundError:
            return 0

    def write_spec(self, spec: ContainerSpec) -> None:
        write_json(self._config.bundle(spec.id) / "spec.json", to_json(spec), mode=0o600)

    def remove(self, container_id: str) -> None:
        """Remove the bundle; idempotent. What of it resists lies in `tmp`, and goes later."""
        with suppress(FileNotFoundError):
            doom(self._config, self._config.bundle(container_id))

    # -- exits --------------------------------------------------------------------------------

    def exits(self, container_id: str) -> list[ExitRecord]:
        """Every recorded end, oldest first. A line cut short by a crash is left out."""
        return self._exits(container_id, KEPT_EXITS)

    def last_exit(self, container_id: str) -> ExitRecord | None:
        """The latest recorded end, also when a line after it was cut short."""
        found = self._exits(container_id, 2)
        return found[-1] if found else None

    def _exits(self, container_id: str, most: int) -> list[ExitRecord]:
        try:
            text = (self._config.bundle(container_id) / "exits.jsonl").read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return []
        records = []
        for line in text.splitlines()[-most:]:
            try:
                records.append(from_json(ExitRecord, json.loads(line)))
            except (ValueError, EngineError):
                continue
        return records

    def append_exit(self, container_id: str, record: ExitRecord) -> None:
        """For the engine, when there is no shim to do it. Durable when it returns."""
        line = json.dumps(to_json(record), separators=(",", ":")).encode() + b"\n"
        path = self._config.bundle(container_id) / "exits.jsonl"
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, line)
            os.fsync(fd)
        finally:
            os.close(fd)

    def trim_exits(self, container_id: str) -> None:
        """Forget all but the latest: a container in a restart loop adds a line a minute for ever.

        For a container without a living shim, which appends to the file. Raises OSError.
        """
        path = self._config.bundle(container_id) / "exits.jsonl"
        try:
            if path.stat().st_size <= _EXITS_SIZE:
                return
        except FileNotFoundError:
            return
        kept = path.read_bytes().splitlines(keepends=True)[-KEPT_EXITS:]
        write_atomic(path, b"".join(kept), mode=0o600)

    # -- state --------------------------------------------------------------------------------

    def state(self, container_id: str) -> RunState | None:
        """`state.json`, or None when the container has not run since the host came up.

        Raises EngineError when the file is corrupt.
        """
        path = self._config.container_run(container_id) / "state.json"
        try:
            data: Any = read_json(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError as error:
            raise EngineError(
                f"The state of container {container_id[:12]} is corrupt: {error}.", path=str(path)
            ) from error
        return from_json(RunState, data)

    def write_state(self, container_id: str, state: RunState) -> None:
        """Only for a container without a living shim, which is the file's one writer."""
        directory = self._config.container_run(container_id)
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_json(directory / "state.json", to_json(state), mode=0o600, durable=False)

    def change_plan(self, container_id: str, edit: Callable[[dict[str, Any]], None]) -> None:
        """Have the next life of a container that runs, and what is executed in it, begin with something else.

        Nothing happens when it has just ended. Raises OSError.
        """
        path = self._config.container_run(container_id) / "plan.json"
        try:
            plan = read_json(path)
        except FileNotFoundError:
            return
        edit(plan)
        write_json(path, plan, mode=0o600, durable=False)

    def drop_monitor(self, container_id: str) -> None:
        """Remove what only a container with a monitor has: its socket, and the plan, which holds secrets."""
        for name in ("shim.sock", "plan.json"):
            (self._config.container_run(container_id) / name).unlink(missing_ok=True)

    def drop_run(self, container_id: str) -> None:
        """Remove state.json, socket and the rest of the run directory; nothing there is no error."""
        directory = self._config.container_run(container_id)
        for last in (False,) * 20 + (True,):
            try:
                shutil.rmtree(directory)
            except OSError as error:
                # A monitor that is just coming or leaving made its socket, or took it away, before our unlink.
                if error.errno not in (errno.ENOENT, errno.ENOTEMPTY) or last:
                    raise
            if not directory.exists():
                return
