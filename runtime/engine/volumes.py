"""Named volumes: directories that outlive containers. The content is in `_data`, as Docker's users expect."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runtime.engine.layers import MergedTree, copy_tree
from runtime.errors import EngineError, KernelFailure, NotFound, VolumeInUse, error_context
from runtime.kernel import syscalls
from runtime.model.parse import VOLUME_NAME
from runtime.model.validate import validate_volume_name
from runtime.store.bundles import BundleStore
from runtime.store.files import read_json, write_json
from runtime.store.leftovers import doom, give_up, half_made
from runtime.store.locks import discard, locked
from runtime.store.paths import Config
from runtime.store.walk import beneath

# Beside the content of a volume that is filled in place: what is still to be moved there. Not named after a process,
# for whoever comes next goes on with it.
_FILLING = "filling"
_LOOK_UP = 64  # entries counted between two looks at the clock


@dataclass(frozen=True, slots=True)
class VolumeRecord:
    name: str
    path: Path  # of the content
    created_at: float  # Unix seconds


class Measuring:
    """Counts the bytes on disk below a directory, some of the time."""

    def __init__(self, directory: Path) -> None:
        self.size = 0
        self._entries = beneath(directory)
        self._seen: set[tuple[int, int]] = set()

    def go_on(self, seconds: float) -> bool:
        """Count for about that long; True when everything is counted. Raises OSError when the directory is gone.

        Files that come and go meanwhile may be counted or not. A file of several names is counted once.
        """
        until = time.monotonic() + seconds
        for number, (_, entry, facts) in enumerate(self._entries, 1):
            if facts.st_nlink == 1 or entry.is_dir(follow_symlinks=False) or self._is_new(facts):
                self.size += facts.st_blocks * 512
            if number % _LOOK_UP == 0 and time.monotonic() >= until:
                return False
        return True

    def _is_new(self, facts: os.stat_result) -> bool:
        file = (facts.st_dev, facts.st_ino)
        if file in self._seen:
            return False
        self._seen.add(file)
        return True


class VolumeManager:
    def __init__(self, config: Config, bundles: BundleStore) -> None:
        self._config = config
        self._bundles = bundles

    def create(self, name: str) -> VolumeRecord:
        """Make the volume, or return the one there is. Raises SpecInvalid, StorageFull."""
        validate_volume_name(name)
        with error_context("create volume", volume=name), self._lock(name):
            return self._create(name)

    def _create(self, name: str, container_id: str = "") -> VolumeRecord:
        """`container_id` is whose creation makes it; one that others want too is nobody's."""
        directory = self._config.volume(name)
        if not (directory / "volume.json").exists():
            self._make(name, directory, container_id)
        elif self._made_for(name) not in ("", container_id):
            note = {"name": name, "created_at": self._record(name).created_at}
            write_json(directory / "volume.json", note)
        return self._record(name)

    def create_for(self, name: str, container_id: str) -> VolumeRecord:
        """As `create`, for a container that is being made: `take_back` may take it away again."""
        validate_volume_name(name)
        with error_context("create volume", volume=name), self._lock(name):
            return self._create(name, container_id)

    def take_back(self, name: str, container_id: str) -> None:
        """Remove what the creation of this container made, unless somebody else uses or wants it.

        A volume that there was before is left alone, also when that creation was begun again.
        """
        validate_volume_name(name)
        with error_context("remove volume", volume=name), self._lock(name):
            if self._made_for(name) == container_id and not any(self.users(name)):
                doom(self._config, self._config.volume(name))

    def _made_for(self, name: str) -> str:
        try:
            return str(read_json(self._config.volume(name) / "volume.json").get("made_for", ""))
        except (OSError, ValueError, AttributeError):
            return ""

    def _make(self, name: str, directory: Path, container_id: str) -> None:
        """Whole or not at all."""
        self._config.tmp.mkdir(parents=True, exist_ok=True)
        half = self._config.tmp / half_made("volume")
        half.mkdir(mode=0o711)
        try:
            (half / "_data").mkdir()
            note = {"name": name, "created_at": time.time()}
            if directory.exists():
                # Without its note: the data may be somebody's.
                write_json(half / "volume.json", note)
                (directory / "_data").mkdir(exist_ok=True)
                os.rename(half / "volume.json", directory / "volume.json")
            else:
                write_json(half / "volume.json", {**note, "made_for": container_id})
                self._config.volumes.mkdir(parents=True, exist_ok=True, mode=0o700)
                os.rename(half, directory)
        finally:
            give_up(self._config, half)

    def fill(self, name: str, layers: Sequence[Path], target: str) -> bool:
        """Give a volume that is still empty what the image holds at `target`; True when it did.

        Copied beside, then moved into the very directory that is there, name by name: another container may have that
        mounted, or be about to. Who dies meanwhile leaves what is still to come where `settle` finds it.
        """
        with error_context("fill volume", volume=name), self._lock(name):
            if self._finish(name):
                return True
            data = self.path(name)
            if os.listdir(data):
                return False
            tree = MergedTree(layers)
            source = tree.resolve(target)
            if source is None or not os.path.isdir(tree.find(source) or ""):
                return False
            half = self._config.volume(name) / half_made("half")
            half.mkdir()
            try:
                copy_tree(tree, source, half)
                if os.listdir(half):
                    _to_disk(half)
                # Before anything is in it: a fill that is finished later leaves alone what was changed meanwhile.
                facts = half.stat()
                os.chown(data, facts.st_uid, facts.st_gid)
                shutil.copystat(half, data)
                os.rename(half, self._config.volume(name) / _FILLING)
            except BaseException:
                give_up(self._config, half)
                raise
            self._finish(name)
            os.utime(data, ns=(facts.st_atime_ns, facts.st_mtime_ns))
            return True

    def settle(self, name: str) -> None:
        """Before somebody mounts the volume: finish a fill that was broken off, if there is one.

        Raises KernelFailure, StorageFull, SpecInvalid.
        """
        validate_volume_name(name)
        with error_context("fill volume", volume=name):
            if self._is_filling(name):
                with self._lock(name):
                    self._finish(name)

    def _is_filling(self, name: str) -> bool:
        try:
            os.lstat(self._config.volume(name) / _FILLING)
        except FileNotFoundError:
            return False
        return True

    def _finish(self, name: str) -> bool:
        """Move what is left of a fill to where it belongs; False when there is none."""
        if not self._is_filling(name):
            return False
        filling = self._config.volume(name) / _FILLING
        _move_into(filling, self._config.volume(name) / "_data")
        try:
            os.rmdir(filling)
        except OSError:  # with what somebody else had made meanwhile
            doom(self._config, filling)
        return True

    def path(self, name: str) -> Path:
        """Host path of the content. Raises NotFound, SpecInvalid."""
        validate_volume_name(name)
        directory = self._config.volume(name)
        if not (directory / "volume.json").exists():
            raise NotFound(f"There is no volume {name} on this host.", name=name)
        return directory / "_data"

    def exists(self, name: str) -> bool:
        return (self._config.volume(name) / "volume.json").exists()

    def names(self) -> list[str]:
        """Of all volumes, and without reading anything of them."""
        try:
            found = os.listdir(self._config.volumes)
        except FileNotFoundError:
            return []
        return [name for name in found if VOLUME_NAME.fullmatch(name)]

    def list(self) -> list[VolumeRecord]:
        try:
            names = sorted(os.listdir(self._config.volumes))
        except FileNotFoundError:
            return []
        return [self._record(n) for n in names if VOLUME_NAME.fullmatch(n) and self.exists(n)]

    def remove(self, name: str) -> None:
        """Remove it with its content; idempotent. Raises VolumeInUse while a container mounts it."""
        validate_volume_name(name)
        with error_context("remove volume", volume=name), self._lock(name):
            directory = self._config.volume(name)
            if not directory.exists():
                return
            users = [i[:12] for i in self.users(name)]
            if users:
                raise VolumeInUse(
                    f"Volume {name} is used by {', '.join(users)}.",
                    hint="Remove these containers first.",
                    name=name,
                    containers=users,
                )
            doom(self._config, directory)

    def users(self, name: str) -> Iterable[str]:
        """Ids of the containers on this host whose specification mounts the volume."""
        for container_id in self._bundles.ids():
            try:
                spec = self._bundles.spec(container_id)
            except EngineError:
                continue
            if any(m.type == "volume" and m.source == name for m in spec.mounts):
                yield container_id

    def measuring(self, name: str) -> Measuring:
        """A walk that tells its size. Raises NotFound, SpecInvalid."""
        return Measuring(self.path(name))

    def usage(self, name: str) -> int:
        """Bytes on disk, walked at once. Raises NotFound, SpecInvalid, OSError."""
        walk = self.measuring(name)
        while not walk.go_on(1.0):
            pass
        return walk.size

    def _record(self, name: str) -> VolumeRecord:
        directory = self._config.volume(name)
        try:
            created = float(read_json(directory / "volume.json")["created_at"])
        except (OSError, ValueError, KeyError, TypeError):
            created = 0.0  # a damaged note must not hide the data
        return VolumeRecord(name, directory / "_data", created)

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        """The file goes with the volume: one that is not there has none."""
        path = self._config.locks / f"volume-{name}.lock"
        with locked(path):
            try:
                yield
            finally:
                if not self._config.volume(name).exists():
                    discard(path)


def _to_disk(half: Path) -> None:
    """Content before name: a crash of the host must not leave a volume that only looks filled. Raises OSError."""
    fd = os.open(half, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syscalls.syncfs(fd)
    except KernelFailure as error:
        raise OSError(error.errno, os.strerror(error.errno), str(half)) from error
    finally:
        os.close(fd)


def _move_into(filling: Path, data: Path) -> None:
    """All that is in `filling`; what somebody else makes meanwhile in `data` stays. Raises OSError.

    Each name is moved at once or not yet, so that it may be broken off anywhere and begun again. Nothing goes back on
    an error: somebody may have written into it.
    """
    for name in os.listdir(filling):
        try:
            syscalls.rename_new(str(filling / name), str(data / name))
        except KernelFailure as error:
            if error.errno == errno.EINVAL:  # the file system cannot (ZFS before 2.2)
                if not os.path.lexists(data / name):
                    os.rename(filling / name, data / name)
            elif error.errno != errno.EEXIST:
                raise OSError(error.errno, os.strerror(error.errno), str(data / name)) from error
