"""Files of a container, listed, and as tar streams in and out, whether it runs or not."""

from __future__ import annotations

import json
import os
import posixpath
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.engine.diff import changes_in
from runtime.engine.layers import MergedTree
from runtime.engine.mounts import user_steps
from runtime.engine.observe import Observer
from runtime.engine.volumes import VolumeManager
from runtime.errors import BadState, EngineError, SpecInvalid, error_context, from_payload
from runtime.images import ImageStore
from runtime.kernel import procfs
from runtime.model.state import Observed, Status
from runtime.snapshots import mount_points, prepare
from runtime.store.bundles import BundleStore
from runtime.store.paths import Config

_CHECKOUT = str(Path(__file__).resolve().parents[2])
_SCRIPT = (
    "import sys; sys.path.append({!r}); from runtime.shim.copying import main; "
    "main(int(sys.argv[1]), int(sys.argv[2]))"
)
_LONGEST = 4096  # bytes of a path
_TESTS = ("SLIPWAY_PRELOAD", "SLIPWAY_FAULTS")  # what tests of failures have it load


@dataclass(frozen=True, slots=True)
class PathStat:
    name: str
    size: int  # bytes
    mode: int  # st_mode
    mtime: float  # Unix seconds
    link_target: str  # "" unless it is a symbolic link


@dataclass(frozen=True, slots=True)
class Entry:
    """One name of a directory. `mode` is st_mode, `user` and `group` are what the container calls them, or ""."""

    name: str  # what is no UTF-8 as surrogates
    kind: str  # file, directory, link, pipe, socket, device
    size: int  # bytes
    mode: int
    uid: int  # as seen inside
    gid: int
    user: str
    group: str
    mtime: float  # Unix seconds
    link_target: str
    leads_to: str  # the kind of what a link leads to, "" when to nothing
    change: str = ""  # added, modified: in the writable layer


@dataclass(frozen=True, slots=True)
class Listing:
    path: str  # without links
    in_layer: bool  # what is written here goes with the container; False in volumes and the like
    entries: tuple[Entry, ...]  # by name
    deleted: tuple[
        str, ...
    ]  # names that the image has here, and the container has deleted; from the start only
    more: bool  # names come after the last of these


class Transfer:
    """A copy under way. `stream` is a pipe: the tar's reading end, or the end to write it to.

    Close it: one that has not been finished is broken off. One of a container that does not run keeps
    it from being started meanwhile.
    """

    def __init__(self, process: subprocess.Popen[bytes], status: int, held: ExitStack) -> None:
        self._process = process
        self._status = os.fdopen(status, "rb")
        self._held = held
        pipe = process.stdin or process.stdout
        assert pipe is not None
        self.stream = pipe

    def message(self) -> dict[str, Any]:
        """What the helper says next. Raises the error that it has met."""
        line = self._status.readline()
        if not line:
            raise EngineError("The process that copies files died.")
        told: dict[str, Any] = json.loads(line)
        if "error" in told:
            raise from_payload(told["error"])
        return told

    def finish(self) -> dict[str, Any]:
        """After the last byte: what is in its place of one that was written, {"members", "bytes"}.

        Raises what went wrong meanwhile; what was read is incomplete then, and `extra["written"]` says
        how much of what was written stays.
        """
        if self._process.stdin is not None:
            try:
                self._process.stdin.close()
            except BrokenPipeError:
                pass  # the message says why
        done: dict[str, Any] = self.message()["done"]
        return done

    def close(self) -> None:
        try:
            self._process.kill()
            self._process.wait()
            self._status.close()
            try:
                self.stream.close()
            except BrokenPipeError:
                pass
        finally:
            self._held.close()

    def __enter__(self) -> Transfer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Files:
    """What each method raises: NotFound (container or path), BadState, SpecInvalid, KernelFailure."""

    def __init__(
        self,
        config: Config,
        *,
        bundles: BundleStore,
        images: ImageStore,
        volumes: VolumeManager,
        observer: Observer,
    ) -> None:
        self._config = config
        self._bundles = bundles
        self._images = images
        self._volumes = volumes
        self._observer = observer

    def stat(self, container_id: str, path: str) -> PathStat:
        """What is at `path`; a link as its last part is not followed."""
        with self._begin(container_id, {"op": "stat", "path": path}) as transfer:
            return PathStat(**transfer.message()["stat"])

    def read(
        self, container_id: str, path: str, *, export: bool = False
    ) -> tuple[PathStat, Transfer]:
        """What is at `path` and below, for the caller to read and close; to `export` it, without volumes."""
        transfer = self._begin(container_id, {"op": "read", "path": path, "export": export})
        try:
            return PathStat(**transfer.message()["stat"]), transfer
        except BaseException:
            transfer.close()
            raise

    def content(
        self, container_id: str, path: str, *, limit: int | None = None
    ) -> tuple[PathStat, Transfer]:
        """The file that `path` leads to, `limit` bytes at most, for the caller to read and close."""
        transfer = self._begin(container_id, {"op": "content", "path": path, "limit": limit})
        try:
            return PathStat(**transfer.message()["stat"]), transfer
        except BaseException:
            transfer.close()
            raise

    def listing(
        self, container_id: str, path: str, *, after: str = "", limit: int = 1000
    ) -> Listing:
        """What is in the directory that `path` leads to, from the first name after `after`."""
        request = {"op": "list", "path": path, "after": after, "limit": limit}
        with self._begin(container_id, request) as transfer:
            place = transfer.message()["list"]
            rows = [json.loads(line) for line in transfer.stream]
            transfer.finish()
        more = bool(rows) and "more" in rows[-1]
        changes: dict[str, str] = {}
        if place["on_root"]:
            with error_context("changes", id=container_id):
                found = changes_in(*self._tree(container_id), place["path"])
            changes = {posixpath.basename(change.path): change.kind for change in found}
        names = rows[:-1] if more else rows
        return Listing(
            path=place["path"],
            in_layer=place["on_root"],
            entries=tuple(Entry(**row, change=changes.get(row["name"], "")) for row in names),
            deleted=() if after else tuple(_deleted(changes)[:limit]),
            more=more,
        )

    def _tree(self, container_id: str) -> tuple[Path, MergedTree]:
        """The writable layer, and what lies below it."""
        image = self._bundles.spec(container_id).image
        layers = [mount_points(self._config), *self._images.layer_dirs(image)]
        return self._config.bundle(container_id) / "upper", MergedTree(layers)

    def write(
        self, container_id: str, path: str, *, no_overwrite: bool = False, keep_ids: bool = False
    ) -> Transfer:
        """A way into the directory `path`, for a tar stream; see runtime.shim.tars.unpack."""
        options = {"no_overwrite": no_overwrite, "keep_ids": keep_ids}
        transfer = self._begin(container_id, {"op": "write", "path": path, **options})
        try:
            transfer.message()
        except BaseException:
            transfer.close()
            raise
        return transfer

    def _begin(self, container_id: str, request: dict[str, Any]) -> Transfer:
        path = request["path"]
        if not path or "\0" in path or len(os.fsencode(path)) > _LONGEST:
            raise SpecInvalid("path", "Name a path in the container.")
        # As `docker cp`: relative to "/".
        request["path"] = path if path.startswith("/") else f"/{path}"
        with error_context("copy", id=container_id), ExitStack() as stack:
            observed = self._observer.observe(container_id)
            if observed.status in (Status.RUNNING, Status.PAUSED):
                place = _of_running(observed, stack)
            else:
                # The process that copies holds it too, should this one die.
                lock = stack.enter_context(self._observer.locked(container_id))
                place = self._of_stopped(self._observer.settled(container_id)) | {"lock": lock}
            return _spawn({**request, **place}, stack)

    def _of_stopped(self, observed: Observed) -> dict[str, Any]:
        if observed.status not in (Status.CREATED, Status.EXITED):
            raise BadState("copy files of", observed.status, observed.status.actions)
        spec = self._bundles.spec(observed.id)
        layers = [mount_points(self._config), *self._images.layer_dirs(spec.image)]
        upper, work, rootfs = prepare(self._config, spec.id)
        overlay = {
            "lower": [str(layer) for layer in reversed(layers)],
            "upper": str(upper),
            "work": str(work),
            "rootfs": str(rootfs),
            "read_only": spec.security.read_only_rootfs,
        }
        for mount in spec.mounts:
            if mount.type == "volume":
                self._volumes.settle(mount.source)
        steps = [s for s in user_steps(spec, self._config, self._volumes) if s["kind"] == "bind"]
        return {"overlay": overlay, "mounts": steps}


def _deleted(changes: dict[str, str]) -> list[str]:
    return sorted(name for name, kind in changes.items() if kind == "deleted")


def _of_running(observed: Observed, stack: ExitStack) -> dict[str, Any]:
    run = observed.run
    assert run is not None
    try:
        pidfd = os.pidfd_open(run.pid)
        stack.callback(os.close, pidfd)
        mapped = os.readlink(f"/proc/{run.pid}/ns/user") != os.readlink("/proc/self/ns/user")
    except (ProcessLookupError, FileNotFoundError):
        mapped, pidfd = False, -1
    # Another process may have its pid by now; the descriptor is of the one that is there still.
    if pidfd < 0 or not procfs.is_alive(run.pid, run.start_time):
        raise BadState("copy files of", Status.EXITED, Status.EXITED.actions)
    return {"pidfd": pidfd, "mapped": mapped}


def _spawn(request: dict[str, Any], stack: ExitStack) -> Transfer:
    with ExitStack() as passed:
        asked = os.memfd_create("request")
        passed.callback(os.close, asked)
        os.write(asked, json.dumps(request).encode())
        os.lseek(asked, 0, os.SEEK_SET)
        status, theirs = os.pipe2(os.O_CLOEXEC)
        passed.callback(os.close, theirs)
        fds = [asked, theirs, *(request[name] for name in ("pidfd", "lock") if name in request)]
        writes = request["op"] == "write"
        try:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-S",
                    "-c",
                    _SCRIPT.format(_CHECKOUT),
                    str(asked),
                    str(theirs),
                ],
                stdin=subprocess.PIPE if writes else subprocess.DEVNULL,
                stdout=subprocess.DEVNULL if writes else subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=fds,
                cwd="/",
                env={"LC_ALL": "C.UTF-8"} | {n: os.environ[n] for n in _TESTS if n in os.environ},
            )
        except BaseException:
            os.close(status)
            raise
    return Transfer(process, status, stack.pop_all())
