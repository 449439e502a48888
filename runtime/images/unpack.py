"""A layer's tar stream into a directory, trusting nothing in it.

Every parent is opened by the kernel with RESOLVE_IN_ROOT below the layer's root, so no name and no link,
however it came there, leads out. OCI whiteouts become overlayfs' own (OCI image spec, layer.md;
Documentation/filesystems/overlayfs.rst).
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from runtime.errors import ArchiveInvalid, KernelFailure
from runtime.images.streams import Peekable, Tap, decompressed
from runtime.kernel import syscalls
from runtime.kernel.constants import RESOLVE_IN_ROOT

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_XATTR = "SCHILY.xattr."
# The nodes every container has anyway: null, zero, full, random, urandom; tty, console, ptmx.
_DEVICES = {(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)}
_COPY = 1 << 18


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """Bounds of one layer."""

    max_bytes: int = 64 << 30
    max_ratio: int = 200  # unpacked to packed …
    ratio_from: int = 256 << 20  # … looked at from this many bytes on
    max_entries: int = 2_000_000

    @classmethod
    def from_env(cls) -> UnpackLimits:
        """SLIPWAY_MAX_LAYER_BYTES and SLIPWAY_MAX_LAYER_ENTRIES over the defaults."""
        default = cls()
        return cls(
            max_bytes=int(os.environ.get("SLIPWAY_MAX_LAYER_BYTES", default.max_bytes)),
            max_entries=int(os.environ.get("SLIPWAY_MAX_LAYER_ENTRIES", default.max_entries)),
        )


@dataclass(frozen=True, slots=True)
class Unpacked:
    diff_id: str
    size: int  # bytes of file content
    entries: int


def unpack(
    source: IO[bytes],
    target: str,
    *,
    limits: UnpackLimits | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    progress: Callable[[int], None] = lambda _: None,
) -> Unpacked:
    """Unpack a (compressed) tar into the existing, empty directory `target`.

    `progress` gets the packed bytes read so far. Raises ArchiveInvalid for a damaged or hostile archive,
    OSError; what has been unpacked by then is the caller's to delete.
    """
    bounds = limits or UnpackLimits.from_env()
    packed = Peekable(source)
    tap = Tap(
        decompressed(packed),
        packed,
        max_bytes=bounds.max_bytes,
        max_ratio=bounds.max_ratio,
        ratio_from=bounds.ratio_from,
        cancelled=cancelled,
        progress=progress,
    )
    with _Unpacker(target, bounds) as unpacker:
        try:
            with tarfile.open(fileobj=tap, mode="r|", bufsize=_COPY) as archive:  # type: ignore[call-overload]
                for member in archive:
                    unpacker.add(archive, member)
        except tarfile.TarError as error:
            raise ArchiveInvalid(
                f"The archive is not a tar, or it is damaged: {error}.",
                hint="Make or download it again.",
            ) from error
        tap.drain()
        unpacker.finish()
        return Unpacked(tap.digest, unpacker.size, unpacker.entries)


class _Unpacker:
    def __init__(self, target: str, limits: UnpackLimits) -> None:
        self._root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._limits = limits
        self._parent: tuple[str, int] = ("", self._root)  # the last one used stays open
        self._times: list[tuple[str, float]] = []  # of directories, set when all is in them
        self.size = 0
        self.entries = 0

    def __enter__(self) -> _Unpacker:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_parent()
        os.close(self._root)

    def add(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        self.entries += 1
        if self.entries > self._limits.max_entries:
            raise ArchiveInvalid(
                f"The archive has more than {self._limits.max_entries} entries.",
                hint="If it is meant to, raise SLIPWAY_MAX_LAYER_ENTRIES.",
            )
        path = clean(member.name)
        if not path:
            if member.isdir():
                self._metadata(self._root, ".", member, "")
            return
        directory, _, name = path.rpartition("/")
        parent = self._open_parent(directory)
        if name == _OPAQUE:
            os.setxattr(parent, "trusted.overlay.opaque", b"y")
        elif name.startswith(_WHITEOUT):
            self._whiteout(parent, name.removeprefix(_WHITEOUT), path)
        else:
            self._make(archive, member, parent, name, path)

    def finish(self) -> None:
        # Children first: setting a child's time does not touch its parent's, making it did.
        for path, time in reversed(self._times):
            try:
                fd = self._open_directory(path)
            except (KernelFailure, OSError):
                continue  # replaced by a later entry
            try:
                os.utime(fd, (time, time))
            finally:
                os.close(fd)

    # -- one entry ----------------------------------------------------------------------------

    def _make(
        self, archive: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str, path: str
    ) -> None:
        if member.isdir():
            self._directory(parent, name)
        else:
            self._replace(parent, name)
            if member.isreg():
                self._file(archive, member, parent, name)
                return
            if member.islnk():
                self._hard_link(member, parent, name, path)
                return
            if member.issym():
                os.symlink(member.linkname, name, dir_fd=parent)
            elif member.isfifo():
                os.mkfifo(name, 0o600, dir_fd=parent)
            elif member.ischr() or member.isblk():
                self._device(member, parent, name, path)
            else:
                raise ArchiveInvalid(f"{path} is of a kind that no file system has.", path=path)
        self._metadata(parent, name, member, path)

    def _directory(self, parent: int, name: str) -> None:
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=parent)
                os.mkdir(name, 0o755, dir_fd=parent)

    def _file(
        self, archive: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str
    ) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            source = archive.extractfile(member)
            if source is None:
                raise ArchiveInvalid(f"{member.name} has no content.", path=member.name)
            # A sparse file's holes are no bytes of the stream, but they are of the disk.
            left = self._limits.max_bytes - self.size
            while data := source.read(_COPY):
                left -= len(data)
                if left < 0:
                    raise ArchiveInvalid(
                        f"The archive unpacks to more than {self._limits.max_bytes >> 20} MiB.",
                        path=member.name,
                    )
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
            self.size += member.size
            os.fchown(fd, member.uid, member.gid)
            os.fchmod(fd, member.mode & 0o7777)
            self._xattrs(fd, member)
            os.utime(fd, (member.mtime, member.mtime))
        finally:
            os.close(fd)

    def _hard_link(self, member: tarfile.TarInfo, parent: int, name: str, path: str) -> None:
        target = clean(member.linkname)
        directory, _, last = target.rpartition("/")
        if not last:
            raise ArchiveInvalid(f"{path} is a hard link to nothing.", path=path)
        try:
            source = self._open_directory(directory)
        except KernelFailure as error:
            raise ArchiveInvalid(
                f"{path} is a hard link to {target}, which is not in the archive.", path=path
            ) from error
        try:
            os.link(last, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError as error:
            raise ArchiveInvalid(
                f"{path} is a hard link to {target}, which is not in the archive.", path=path
            ) from error
        finally:
            os.close(source)

    def _device(self, member: tarfile.TarInfo, parent: int, name: str, path: str) -> None:
        numbers = (member.devmajor, member.devminor)
        if not member.ischr() or numbers not in _DEVICES:
            raise ArchiveInvalid(
                f"{path} is a device node ({numbers[0]}:{numbers[1]}) that an image may not hold.",
                hint="Give the container the device when it is created instead.",
                path=path,
            )
        os.mknod(name, stat.S_IFCHR | 0o600, os.makedev(*numbers), dir_fd=parent)

    def _whiteout(self, parent: int, name: str, path: str) -> None:
        if not name or name.startswith(_WHITEOUT) or name in (".", ".."):
            raise ArchiveInvalid(f"{path} hides nothing.", path=path)
        self._replace(parent, name)
        os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)

    def _replace(self, parent: int, name: str) -> None:
        """Make room: the later entry of one name wins."""
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            pass
        except (IsADirectoryError, PermissionError) as error:
            try:
                os.rmdir(name, dir_fd=parent)
            except OSError:
                raise ArchiveInvalid(
                    f"{name} is a directory with content and something else in one archive."
                ) from error

    def _metadata(self, parent: int, name: str, member: tarfile.TarInfo, path: str) -> None:
        os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
        if member.issym():
            times = (member.mtime, member.mtime)
            os.utime(name, times, dir_fd=parent, follow_symlinks=False)
            return
        os.chmod(name, member.mode & 0o7777, dir_fd=parent)
        if member.isdir():
            self._times.append((path, member.mtime))
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY, dir_fd=parent)
            try:
                self._xattrs(fd, member)
            finally:
                os.close(fd)

    def _xattrs(self, fd: int, member: tarfile.TarInfo) -> None:
        for key, value in member.pax_headers.items():
            if not key.startswith(_XATTR):
                continue
            name = key.removeprefix(_XATTR)
            if name.startswith(("trusted.overlay.", "user.overlay.")):
                # Overlayfs would believe them: an archive could hide or redirect what lies below.
                continue
            try:
                os.setxattr(fd, name, value.encode("utf-8", "surrogateescape"))
            except OSError as error:
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
        if not path:
            return os.dup(self._root)
        flags = os.O_RDONLY | os.O_DIRECTORY
        try:
            return syscalls.openat2(self._root, path, flags, resolve=RESOLVE_IN_ROOT)
        except KernelFailure as error:
            if error.errno == errno.ENOTDIR and make:
                raise ArchiveInvalid(
                    f"The archive puts files below {path}, which is no directory in it.", path=path
                ) from error
            if error.errno != errno.ENOENT or not make:
                raise
        above, _, name = path.rpartition("/")
        parent = self._open_directory(above, make=True)
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError as error:
            raise ArchiveInvalid(
                f"The archive puts files below {path}, a link that leads nowhere.", path=path
            ) from error
        finally:
            os.close(parent)
        return syscalls.openat2(self._root, path, flags, resolve=RESOLVE_IN_ROOT)


def clean(name: str) -> str:
    """`./a//b/` → "a/b"; "" for the root itself. Raises ArchiveInvalid for a name that leaves it."""
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
    if "\0" in name:
        raise ArchiveInvalid("The archive holds a name with a NUL byte.")
    return "/".join(parts)
