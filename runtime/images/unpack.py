"""A layer's tar stream into a directory, trusting nothing in it.

Every parent is opened by the kernel with RESOLVE_IN_ROOT below the layer's root, so no name and no link,
however it came there, leads out. OCI whiteouts become overlayfs' own (OCI image spec, layer.md;
Documentation/filesystems/overlayfs.rst). Owners stay as they are written: a container with a user namespace
gets its layers through an idmapped mount.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from runtime.errors import ArchiveInvalid, KernelFailure
from runtime.images import tar
from runtime.images.limits import UnpackLimits
from runtime.images.streams import BLOCK, Plain
from runtime.kernel import syscalls
from runtime.kernel.constants import RESOLVE_IN_ROOT

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_AUFS = ".wh..wh."  # what AUFS, long ago, kept for itself; some old images still carry it
# The nodes every container has anyway: null, zero, full, random, urandom; tty, console, ptmx.
DEVICES = frozenset({(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)})
_MAX_DEPTH = 512  # components of a name
# What the kernel says when an entry cannot be; all else (a full or failing disk) is no fault of the archive.
_IMPOSSIBLE = {
    errno.EEXIST, errno.EFBIG, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.EMLINK,
    errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.ENOTEMPTY, errno.EPERM, errno.EXDEV,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Unpacked:
    diff_id: str
    size: int  # bytes of file content
    entries: int


def unpack(
    source: IO[bytes],
    target: str,
    *,
    whole: bool = False,
    limits: UnpackLimits | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    progress: Callable[[int], None] = lambda _: None,
) -> Unpacked:
    """Unpack a (compressed) tar into the existing, empty directory `target`.

    `whole` demands the archive's end marker, for a stream whose digest nobody knows. `progress` gets the
    packed bytes read so far. Raises ArchiveInvalid for a damaged or hostile archive, Cancelled, OSError;
    what has been unpacked by then is the caller's to delete.
    """
    bounds = limits or UnpackLimits.from_env()
    plain = Plain(source, bounds, cancelled=cancelled, progress=progress)
    stream = io.BufferedReader(plain, BLOCK)
    with _Unpacker(target, bounds) as unpacker:
        reader = tar.TarReader(stream.read, whole=whole)
        for entry in reader:
            unpacker.add(reader, entry)
        while stream.read(BLOCK):
            pass  # the digest covers what follows the end marker, too
        unpacker.finish()
        return Unpacked(plain.digest, unpacker.size, unpacker.entries)


class _Unpacker:
    def __init__(self, target: str, limits: UnpackLimits) -> None:
        self._root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._limits = limits
        self._parent: tuple[str, int] = ("", self._root)  # the last one used stays open
        self._times: list[tuple[str, int]] = []  # of directories, set when all is in them
        self.size = 0
        self.entries = 0

    def __enter__(self) -> _Unpacker:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_parent()
        os.close(self._root)

    def add(self, reader: tar.TarReader, entry: tar.Entry) -> None:
        self.entries += 1
        if self.entries > self._limits.max_entries:
            raise ArchiveInvalid(
                f"The archive has more than {self._limits.max_entries} entries.",
                hint="If it is meant to, raise SLIPWAY_MAX_LAYER_ENTRIES.",
            )
        path = clean(entry.name)
        try:
            self._add(reader, entry, path)
        except OSError as error:
            if error.errno not in _IMPOSSIBLE:
                raise
            raise _cannot(path, os.strerror(error.errno or 0)) from error

    def _add(self, reader: tar.TarReader, entry: tar.Entry, path: str) -> None:
        if not path:
            if entry.kind == tar.DIRECTORY:
                self._metadata(self._root, ".", entry, "")
            return
        directory, _, name = path.rpartition("/")
        if f"/{_AUFS}" in f"/{path}" and name != _OPAQUE:
            return
        parent = self._open_parent(directory)
        if name == _OPAQUE:
            _set_opaque(parent)
        elif name.startswith(_WHITEOUT):
            self._whiteout(parent, name.removeprefix(_WHITEOUT), path)
        else:
            self._make(reader, entry, parent, name, path)

    def finish(self) -> None:
        # Children first: setting a child's time does not touch its parent's, making it did.
        for path, time in reversed(self._times):
            try:
                fd = self._open_directory(path)
            except (KernelFailure, ArchiveInvalid):
                continue  # replaced by a later entry
            try:
                os.utime(fd, ns=(time, time))
            finally:
                os.close(fd)

    # -- one entry ----------------------------------------------------------------------------

    def _make(
        self, reader: tar.TarReader, entry: tar.Entry, parent: int, name: str, path: str
    ) -> None:
        if entry.kind == tar.DIRECTORY:
            self._directory(parent, name)
        else:
            self._replace(parent, name, path)
            if entry.kind == tar.FILE:
                self._file(reader, entry, parent, name, path)
                return
            if entry.kind == tar.HARD_LINK:
                self._hard_link(entry, parent, name, path)
                return
            if entry.kind == tar.SYMLINK:
                if not entry.link or "\0" in entry.link:
                    raise _cannot(path, "its target is no path")
                os.symlink(entry.link, name, dir_fd=parent)
            elif entry.kind == tar.FIFO:
                os.mkfifo(name, 0o600, dir_fd=parent)
            else:
                self._device(entry, parent, name, path)
        self._metadata(parent, name, entry, path)

    def _directory(self, parent: int, name: str) -> None:
        """Make or keep it. One that comes after its own whiteout hides what lower layers have in it."""
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
            return
        except FileExistsError:
            there = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(there.st_mode):
            return
        os.unlink(name, dir_fd=parent)
        os.mkdir(name, 0o755, dir_fd=parent)
        if _is_whiteout(there):
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY, dir_fd=parent)
            try:
                _set_opaque(fd)
            finally:
                os.close(fd)

    def _file(
        self, reader: tar.TarReader, entry: tar.Entry, parent: int, name: str, path: str
    ) -> None:
        self.size += entry.stored
        if max(self.size, entry.size) > self._limits.max_bytes:
            raise ArchiveInvalid(
                f"The archive unpacks to more than {self._limits.max_bytes >> 20} MiB.",
                hint="If it is meant to be that large, raise SLIPWAY_MAX_LAYER_BYTES.",
                path=path,
            )
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            for offset, data in reader.content():
                view = memoryview(data)
                while view:
                    written = os.pwrite(fd, view, offset)
                    view = view[written:]
                    offset += written
            if entry.segments is not None:
                os.ftruncate(fd, entry.size)  # a hole at the end
            os.fchown(fd, entry.uid, entry.gid)
            os.fchmod(fd, entry.mode)
            # After fchown, which drops security.capability.
            self._xattrs(fd, entry, path)
            os.utime(fd, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(fd)

    def _hard_link(self, entry: tar.Entry, parent: int, name: str, path: str) -> None:
        target = clean(entry.link)
        directory, _, last = target.rpartition("/")
        if not last:
            raise _cannot(path, "it is a hard link to nothing")
        missing = _cannot(path, f"it is a hard link to {target}, which is not in the archive")
        try:
            source = self._open_directory(directory)
        except KernelFailure as error:
            raise missing from error
        try:
            os.link(last, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError as error:
            raise missing from error
        finally:
            os.close(source)

    def _device(self, entry: tar.Entry, parent: int, name: str, path: str) -> None:
        if entry.kind != tar.CHARACTER or entry.device not in DEVICES:
            major, minor = entry.device
            raise ArchiveInvalid(
                f"{path} is a device node ({major}:{minor}) that an image may not hold.",
                hint="Give the container the device when it is created instead.",
                path=path,
            )
        os.mknod(name, stat.S_IFCHR | 0o600, os.makedev(*entry.device), dir_fd=parent)

    def _whiteout(self, parent: int, name: str, path: str) -> None:
        """Hide what lower layers have; what this layer has by the same name stays (layer.md)."""
        if not name or name in (".", ".."):
            raise _cannot(path, "it hides nothing that could exist")
        try:
            os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)
        except FileExistsError:
            if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY, dir_fd=parent)
                try:
                    _set_opaque(fd)
                finally:
                    os.close(fd)

    def _replace(self, parent: int, name: str, path: str) -> None:
        """Make room: the later entry of one name wins."""
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            pass
        except (IsADirectoryError, PermissionError):
            try:
                os.rmdir(name, dir_fd=parent)
            except OSError as error:
                raise _cannot(path, "the archive has a directory by that name as well") from error

    def _metadata(self, parent: int, name: str, entry: tar.Entry, path: str) -> None:
        os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        if entry.kind == tar.DIRECTORY:
            os.chmod(name, entry.mode, dir_fd=parent)
            self._times.append((path, entry.mtime))
            if entry.xattrs:
                fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY, dir_fd=parent)
                try:
                    self._xattrs(fd, entry, path)
                finally:
                    os.close(fd)
            return
        if entry.kind != tar.SYMLINK:
            os.chmod(name, entry.mode, dir_fd=parent)
        os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=parent, follow_symlinks=False)

    def _xattrs(self, fd: int, entry: tar.Entry, path: str) -> None:
        for name, value in entry.xattrs.items():
            if name.startswith(("trusted.overlay.", "user.overlay.")):
                # Overlayfs would believe them: an archive could hide or redirect what lies below.
                continue
            if "\0" in name:
                raise _cannot(path, "an attribute's name holds a NUL byte")
            try:
                os.setxattr(fd, name, value)
            except OSError as error:
                # Not every file system keeps every kind, and not every root may set each.
                if error.errno in (errno.E2BIG, errno.ERANGE):
                    raise _cannot(path, f"its attribute {name} is too large") from error
                if error.errno not in (errno.ENOTSUP, errno.EPERM):
                    raise

    # -- parents ------------------------------------------------------------------------------

    def _open_parent(self, directory: str) -> int:
        if self._parent[0] == directory:
            return self._parent[1]
        self._close_parent()
        fd = self._open_directory(directory, make=True) if directory else self._root
        self._parent = (directory, fd)
        return fd

    def _close_parent(self) -> None:
        if self._parent[1] != self._root:
            os.close(self._parent[1])
        self._parent = ("", self._root)

    def _open_directory(self, path: str, *, make: bool = False) -> int:
        """A descriptor, links followed as if the layer were the root. Raises KernelFailure, OSError."""
        if not path:
            return os.dup(self._root)
        try:
            return self._resolve(path)
        except KernelFailure as error:
            if not make or error.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise
        parts = path.split("/")
        fd = os.dup(self._root)
        for depth, name in enumerate(parts, 1):
            try:
                try:
                    below = self._resolve("/".join(parts[:depth]))
                except KernelFailure as error:
                    if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                        raise
                    # A file or a link that leads nowhere is in the way, or only a whiteout.
                    self._parent_directory(fd, name, path)
                    below = self._resolve("/".join(parts[:depth]))
            finally:
                os.close(fd)
            fd = below
        return fd

    def _parent_directory(self, parent: int, name: str, path: str) -> None:
        try:
            there = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            pass
        else:
            if not _is_whiteout(there):
                raise _cannot(path, f"{name} is no directory in it, and files are to be below")
        self._directory(parent, name)

    def _resolve(self, path: str) -> int:
        try:
            return syscalls.openat2(
                self._root, path, os.O_RDONLY | os.O_DIRECTORY, resolve=RESOLVE_IN_ROOT
            )
        except KernelFailure as error:
            if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
                raise _cannot(path, os.strerror(error.errno)) from error
            raise


def clean(name: str) -> str:
    """`./a//b/` → "a/b"; "" for the root itself.

    Raises ArchiveInvalid for a name that leaves the root, or that no file system has.
    """
    if "\0" in name:
        raise ArchiveInvalid("The archive holds a name with a NUL byte.")
    parts: list[str] = []
    for part in name.split("/"):
        if part in ("", "."):
            continue
        if part == "..":
            if not parts:
                raise ArchiveInvalid(
                    f"The archive holds {name!r}, which would leave the image.",
                    hint="Do not trust this archive.",
                    path=name,
                )
            parts.pop()
        else:
            parts.append(part)
    if len(parts) > _MAX_DEPTH:
        raise ArchiveInvalid(f"The archive holds a name of {len(parts)} directories.")
    return "/".join(parts)


def _cannot(path: str, why: str) -> ArchiveInvalid:
    return ArchiveInvalid(f"The archive's {path[:200]!r} cannot be unpacked: {why}.", path=path)


def _is_whiteout(facts: os.stat_result) -> bool:
    return stat.S_ISCHR(facts.st_mode) and facts.st_rdev == 0


def _set_opaque(directory: int) -> None:
    os.setxattr(directory, "trusted.overlay.opaque", b"y")
