"""A container's files as a tar stream, both ways, for a process whose "/" is the container's (copying.py).

Whatever a link says, it stays in the container: nothing here has a way to the host. Both directions need
memory for one block, for the directories of the stream (their times come last) and for its hard links.
"""

from __future__ import annotations

import bz2  # noqa: F401 - tarfile would import the decompressors inside, from the container's files
import errno
import gzip  # noqa: F401
import lzma
import os
import posixpath
import shutil
import stat
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from runtime.errors import ArchiveInvalid, Conflict, SpecInvalid

_BLOCK = 1 << 16  # bytes
_TRIES = 3  # not every error comes again
_KERNEL = ("/proc", "/sys", "/dev")
_TYPES = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
}


def describe(path: str) -> dict[str, Any]:
    """{"name", "size", "mode", "mtime", "link_target"} of what is at `path`, a last link not followed.

    `mode` is st_mode, `mtime` Unix seconds. Raises OSError.
    """
    facts = os.stat(path, follow_symlinks=_follows(path))
    link = os.readlink(path) if stat.S_ISLNK(facts.st_mode) else ""
    name = posixpath.basename(posixpath.normpath(path)) or "/"
    return {
        "name": name,
        "size": facts.st_size,
        "mode": facts.st_mode,
        "mtime": facts.st_mtime,
        "link_target": link,
    }


def _follows(path: str) -> bool:
    return path.endswith(("/", "/."))


def pack(path: str, out: IO[bytes], *, mounts: bool = True) -> None:
    """Write what is at `path` and below; names begin with its last part, or "." for "/" and "…/.".

    What is mounted on /proc, /sys and /dev is left out unless `path` lies there; sockets always are.
    Without `mounts` so is what is in any directory that something is mounted on.
    Raises OSError.
    """
    parent, name = posixpath.split(posixpath.normpath(path))
    shown = name or "."
    if path.endswith("/."):
        shown = "."
    if _follows(path):
        parent, name = path, "."
    directory = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            _Packer(tar, mounts=mounts).add(directory, name or ".", shown)
    finally:
        os.close(directory)


class _Packer:
    def __init__(self, tar: tarfile.TarFile, *, mounts: bool) -> None:
        self._tar = tar
        self._links: dict[tuple[int, int], str] = {}
        self._mounts = mounts
        self._root = root = os.stat("/").st_dev
        devices = {os.stat(p).st_dev for p in _KERNEL if os.path.isdir(p)}
        self._foreign = devices - {root}

    def add(self, directory: int, name: str, shown: str, *, top: bool = True) -> None:
        facts = os.stat(name, dir_fd=directory, follow_symlinks=False)
        kind = _TYPES.get(stat.S_IFMT(facts.st_mode))
        if kind is None:
            return
        member = tarfile.TarInfo(shown)
        member.type = kind
        member.mode = stat.S_IMODE(facts.st_mode)
        member.uid, member.gid = facts.st_uid, facts.st_gid
        member.mtime = facts.st_mtime
        if kind == tarfile.SYMTYPE:
            member.linkname = os.readlink(name, dir_fd=directory)
        elif kind in (tarfile.CHRTYPE, tarfile.BLKTYPE):
            member.devmajor, member.devminor = os.major(facts.st_rdev), os.minor(facts.st_rdev)
        elif kind == tarfile.REGTYPE:
            self._file(directory, name, member)
            return
        self._write(member)
        if kind == tarfile.DIRTYPE and (top or self._enters(facts.st_dev)):
            self._directory(directory, name, shown)

    def _enters(self, device: int) -> bool:
        return device not in self._foreign and (self._mounts or device == self._root)

    def _write(self, member: tarfile.TarInfo, file: Any = None) -> None:
        self._tar.addfile(member, file)
        self._tar.members.clear()  # type: ignore[attr-defined] # it would keep every one

    def _directory(self, directory: int, name: str, shown: str) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            inner = os.open(name, flags, dir_fd=directory)
        except (FileNotFoundError, NotADirectoryError):
            return  # removed or exchanged since
        try:
            for entry in sorted(os.listdir(inner)):
                try:
                    self.add(inner, entry, f"{shown}/{entry}", top=False)
                except FileNotFoundError:
                    continue
        finally:
            os.close(inner)

    def _file(self, directory: int, name: str, member: tarfile.TarInfo) -> None:
        # Not blocking: it may have become a pipe that nobody writes to.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            fd = os.open(name, flags, dir_fd=directory)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                return  # exchanged since
            if error.errno == errno.EACCES and not _is_file(directory, name):
                return  # for a device, which nobody opens here
            raise
        with os.fdopen(fd, "rb") as file:
            facts = os.fstat(fd)
            if not stat.S_ISREG(facts.st_mode):
                return
            key = (facts.st_dev, facts.st_ino)
            if facts.st_nlink > 1 and key in self._links:
                member.type, member.linkname = tarfile.LNKTYPE, self._links[key]
                self._write(member)
                return
            if facts.st_nlink > 1:
                self._links[key] = member.name
            member.size = facts.st_size
            self._write(member, _Exactly(file))


def _is_file(directory: int, name: str) -> bool:
    return stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)


class _Exactly:
    """As many bytes as asked for, whatever the file has become: zeros where it was cut."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, count: int) -> bytes:
        return self._file.read(count).ljust(count, b"\0")


@dataclass
class Written:
    """What of a tar stream is in its place."""

    members: int = 0
    bytes: int = 0


def go_into(path: str) -> None:
    """Make the directory `path` the one to unpack into. Raises SpecInvalid, OSError."""
    try:
        os.chdir(path)
    except NotADirectoryError:
        raise SpecInvalid("path", f"{path} is not a directory.") from None


def unpack(source: IO[bytes], written: Written, *, no_overwrite: bool, keep_ids: bool) -> None:
    """Put the members of a tar stream, also a compressed one, into the current directory.

    What is there is replaced; with `no_overwrite` no directory by something else or the other way round.
    Without `keep_ids` all belongs to root. A file is in its place when it is whole, and what it replaces is
    there until then. Raises ArchiveInvalid, Conflict, OSError; members before the bad one stay: `written`.
    """
    times: list[tuple[str, float]] = []
    try:
        with tarfile.open(fileobj=source, mode="r|*") as tar:
            for member in tar:
                tar.members.clear()  # type: ignore[attr-defined] # it would keep every one
                name = _inside(member.name)
                if name == ".":
                    continue
                _place(tar, member, name, no_overwrite=no_overwrite, keep_ids=keep_ids)
                written.members += 1
                written.bytes += member.size if member.isreg() else 0
                if member.isdir():
                    times.append((name, member.mtime))
        while source.read(_BLOCK):
            pass  # padding
        for name, mtime in reversed(times):
            if os.path.isdir(name) and not os.path.islink(name):
                os.utime(name, (mtime, mtime))
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ArchiveInvalid(f"The tar stream cannot be read: {error}.") from None
    except (ValueError, OverflowError, MemoryError, RecursionError) as error:
        # Numbers, names and sizes that a header may claim and no file can have.
        raise ArchiveInvalid(f"The tar stream makes no sense: {error!r}.") from None


def _inside(name: str) -> str:
    """The name relative to the destination. Raises ArchiveInvalid for one that leads out of it."""
    if ".." in name.split("/") or "\0" in name:
        raise ArchiveInvalid(f"The member {name!r} leads out of the destination.")
    return posixpath.normpath(name.lstrip("/") or ".")


def _place(
    tar: tarfile.TarFile, member: tarfile.TarInfo, name: str, *, no_overwrite: bool, keep_ids: bool
) -> None:
    if not (
        member.isreg() or member.isdir() or member.issym() or member.islnk() or member.isfifo()
    ):
        # A character device 0:0 would hide a file, any other lead to the host's.
        raise ArchiveInvalid(f"The member {name!r} is a device or of an unknown type.")
    if parent := posixpath.dirname(name):
        os.makedirs(parent, 0o755, exist_ok=True)
    uid, gid = (member.uid, member.gid) if keep_ids else (0, 0)
    if member.isreg():
        _check(name, directory=False, no_overwrite=no_overwrite)
        with _whole(name) as file:
            data = tar.extractfile(member)
            assert data is not None
            shutil.copyfileobj(data, file, _BLOCK)
            file.flush()
            os.fchown(file.fileno(), uid, gid)
            os.fchmod(file.fileno(), member.mode & 0o7777)  # after chown, which takes setuid away
            os.utime(file.fileno(), (member.mtime, member.mtime))
        return
    target = _inside(member.linkname) if member.islnk() else ""
    if member.islnk():
        if target == name:
            return
        os.lstat(target)  # before what it replaces is gone
    if _make_room(name, member.isdir(), no_overwrite=no_overwrite):
        pass
    elif member.isdir():
        os.mkdir(name, 0o700)
    elif member.issym():
        os.symlink(member.linkname, name)
    elif member.islnk():
        os.link(target, name, follow_symlinks=False)
    elif member.isfifo():
        os.mkfifo(name, 0o600)
    if member.islnk():
        return  # the other name has it all
    os.chown(name, uid, gid, follow_symlinks=False)
    if not member.issym():
        os.chmod(name, member.mode & 0o7777)
    if not member.isdir():
        os.utime(name, (member.mtime, member.mtime), follow_symlinks=False)


@contextmanager
def _whole(name: str) -> Iterator[IO[bytes]]:
    """A new file that takes the place of what is at `name` when the block has filled it."""
    beside = posixpath.join(posixpath.dirname(name), f".slipway-{os.urandom(8).hex()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(beside, flags, 0o600)
    except FileNotFoundError:
        # As the kernel's own file systems say it.
        raise Conflict(f"{name} cannot be written: no file can be made there.") from None
    try:
        with os.fdopen(fd, "wb") as file:
            yield file
        if _check(name, directory=False, no_overwrite=False):
            shutil.rmtree(name)
        os.rename(beside, name)
    except BaseException:
        _discard(beside)
        raise


def _discard(name: str) -> None:
    """Never raises: why it is discarded is what counts."""
    for _ in range(_TRIES):
        try:
            os.unlink(name)
            return
        except FileNotFoundError:
            return
        except OSError:
            continue


def _check(name: str, *, directory: bool, no_overwrite: bool) -> bool | None:
    """Whether what is at `name` is a directory, None when nothing is. Raises Conflict if it must stay."""
    try:
        is_directory = stat.S_ISDIR(os.lstat(name).st_mode)
    except FileNotFoundError:
        return None
    if is_directory != directory and no_overwrite:
        what = "a directory" if is_directory else "no directory"
        raise Conflict(f"{name} exists and is {what}.", hint="Allow to overwrite it.")
    return is_directory


def _make_room(name: str, directory: bool, *, no_overwrite: bool) -> bool:
    """Remove what is at `name`; True when it is a directory that stays."""
    is_directory = _check(name, directory=directory, no_overwrite=no_overwrite)
    if is_directory is None:
        return False
    if is_directory and directory:
        return True
    if is_directory:
        shutil.rmtree(name)
    else:
        os.unlink(name)
    return False
