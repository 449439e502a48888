"""A container's writable layer: upper and work directories of its overlay, and what lies in them."""

from __future__ import annotations

import errno
import heapq
import os
import shutil
import stat
import threading
from dataclasses import dataclass
from pathlib import Path

from runtime.store.paths import Config
from runtime.store.trees import remove_tree
from runtime.store.walk import beneath

_LARGEST = 20  # paths named in a usage
_MOUNT_DIRECTORIES = ("dev", "etc", "proc", "sys")
_MOUNT_FILES = ("etc/hosts", "etc/hostname", "etc/resolv.conf")
_DEPTH = 4  # components of a named path: "/var/lib/postgresql/data", not each file below


@dataclass(frozen=True, slots=True)
class WritableUsage:
    """Bytes on disk of a writable layer, and the directories that hold most of them."""

    total: int  # bytes
    paths: tuple[tuple[str, int], ...]  # (path in the container, bytes), largest first
    files: int = 0


def prepare(config: Config, container_id: str) -> tuple[Path, Path, Path]:
    """(upper, work, rootfs) of the container, made where missing. Raises OSError.

    All containers share one rootfs: each mounts on it in a namespace of its own.
    """
    bundle = config.bundle(container_id)
    upper, work, rootfs = bundle / "upper", bundle / "work", config.rootfs
    for directory, mode in ((upper, 0o755), (work, 0o700), (rootfs, 0o755)):
        try:
            directory.mkdir(mode=mode)
        except FileNotFoundError:
            directory.mkdir(mode=mode, parents=True)
        except FileExistsError:
            continue
        directory.chmod(mode)  # whatever the umask
    return upper, work, rootfs


def mount_points(config: Config) -> Path:
    """The layer that lies below every image, with the targets of the mounts that every container has.

    Without it, init would make in each writable layer what the image lacks of them: files that look
    like the container's own changes, and cost the file system an inode each. Raises OSError.
    """
    layer = config.mount_points
    if not layer.is_dir():
        half = layer.with_name(f".{layer.name}-{os.getpid()}-{threading.get_ident()}")
        shutil.rmtree(half, ignore_errors=True)
        try:
            for name in _MOUNT_DIRECTORIES:
                (half / name).mkdir(parents=True)
            for name in _MOUNT_FILES:
                (half / name).touch()
            half.rename(layer)
        except OSError as error:
            shutil.rmtree(half, ignore_errors=True)
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
    return layer


def remove(config: Config, container_id: str) -> None:
    """Delete the writable layer and everything in it; nothing is missing when it is gone.

    Raises OSError for what resists.
    """
    bundle = config.bundle(container_id)
    for name in ("upper", "work"):
        remove_tree(bundle / name)


def usage(config: Config, container_id: str) -> WritableUsage:
    """Walk the writable layer. Files that come and go meanwhile are passed over, and so is what lies so
    deep that it has no path (PATH_MAX, 4096 bytes).
    """
    directories: dict[str, int] = {}
    total = files = 0
    seen: set[int] = set()
    try:
        for directory, _, facts in beneath(config.bundle(container_id) / "upper"):
            # A whiteout marks a deletion; it is not data.
            if not stat.S_ISREG(facts.st_mode) or (facts.st_nlink > 1 and facts.st_ino in seen):
                continue
            if facts.st_nlink > 1:
                seen.add(facts.st_ino)
            size = facts.st_blocks * 512
            files += 1
            total += size
            holder = "/" + "/".join(directory.split("/")[:_DEPTH])
            directories[holder] = directories.get(holder, 0) + size
    except FileNotFoundError:
        pass  # it never started
    largest = heapq.nlargest(_LARGEST, directories.items(), key=lambda item: item[1])
    return WritableUsage(total, tuple(largest), files)
