"""A writable layer as the tar of an image's layer: what overlayfs marks becomes what images mark.

A character device 0:0 becomes `.wh.<name>`, the attribute `trusted.overlay.opaque` an entry `.wh..wh..opq`
(OCI image spec, layer.md; Documentation/filesystems/overlayfs.rst). Owners are those seen inside: ids are
mapped in the mounts, never on disk. Sockets are left out, as `docker commit` does.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runtime.errors import ArchiveInvalid, KernelFailure, Unsupported
from runtime.kernel import syscalls
from runtime.kernel.constants import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS

_BLOCK = 1 << 18  # bytes read at a time
_SECTOR = 512
_MOST_PIECES = 1 << 15  # of a sparse file; one in more is written with its holes
_HOLES_FROM = 1 << 20  # bytes of holes that are worth a map
_OPAQUE = "trusted.overlay.opaque"
# An upper that has these is no layer by itself: the data, or the directory's content, lie elsewhere.
_ELSEWHERE = ("trusted.overlay.redirect", "trusted.overlay.metacopy")
# Overlayfs' own marks, ours, and what a host decides by itself.
_NOT_KEPT = ("trusted.overlay.", "trusted.slipway.", "user.overlay.", "security.selinux")
_KINDS = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
}
_WITHOUT = (errno.ENODATA, errno.ENOTSUP)  # has no such attribute, or none at all
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class LayerTar(io.RawIOBase):
    """Read it for the tar of `upper`. `left_out` are paths of nodes that no image may hold, once it is read.

    What comes and goes while it is read may be in it or not: freeze the container. Nothing is followed that a
    container may have exchanged for a link. Reading raises OSError, Unsupported, ArchiveInvalid.
    """

    def __init__(self, upper: Path, devices: frozenset[tuple[int, int]]) -> None:
        """`devices`: (major, minor) of the character devices that an image may hold."""
        super().__init__()
        self._root = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._devices = devices
        self._links: dict[tuple[int, int], str] = {}
        self._blocks = self._tar()
        self._rest = memoryview(b"")
        self.left_out: list[str] = []

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = memoryview(block)
        view = memoryview(buffer)
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        if not self.closed:
            self._blocks.close()
            os.close(self._root)
        super().close()

    # -- the tar, block by block --------------------------------------------------------------

    def _tar(self) -> Any:
        ahead = [""]
        while ahead:
            path = ahead.pop()
            fd = self._open(path)
            if fd < 0:
                continue
            try:
                below: list[str] = []
                yield from self._directory(fd, path)
                for name in sorted(os.listdir(fd)):
                    yield from self._entry(fd, name, f"{path}/{name}".lstrip("/"), below)
                ahead += reversed(below)
            finally:
                os.close(fd)
        yield bytes(2 * _SECTOR)

    def _open(self, path: str) -> int:
        """A descriptor of the directory; -1 when it is none any more."""
        try:
            return syscalls.openat2(
                self._root,
                path or ".",
                os.O_RDONLY | os.O_DIRECTORY,
                resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
            )
        except KernelFailure as error:
            if error.errno in _GONE:
                return -1
            if error.errno == errno.ENAMETOOLONG:
                raise ArchiveInvalid(
                    f"/{path[:100]}… lies too deep to be part of an image.",
                    hint="Remove that directory in the container first.",
                ) from error
            raise

    def _directory(self, fd: int, path: str) -> Iterator[bytes]:
        member = _member(path or "./", os.fstat(fd))
        attributes = _attributes(fd, path)
        yield _header(member, attributes)
        if path and _is_opaque(fd):
            mark = tarfile.TarInfo(f"{path}/.wh..wh..opq")
            mark.mode = 0o600
            yield _header(mark)

    def _entry(self, parent: int, name: str, path: str, below: list[str]) -> Iterator[bytes]:
        try:
            facts = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        kind = stat.S_IFMT(facts.st_mode)
        if kind == stat.S_IFDIR:
            below.append(path)
        elif kind == stat.S_IFCHR and facts.st_rdev == 0:
            yield _whiteout(path)
        elif kind == stat.S_IFREG:
            yield from self._file(parent, name, path)
        elif kind in _KINDS:
            member = _member(path, facts)
            if kind == stat.S_IFLNK:
                try:
                    member.linkname = os.readlink(name, dir_fd=parent)
                except OSError as error:
                    if error.errno not in (*_GONE, errno.EINVAL):
                        raise
                    return  # exchanged since
            device = (os.major(facts.st_rdev), os.minor(facts.st_rdev))
            if kind in (stat.S_IFCHR, stat.S_IFBLK):
                if kind == stat.S_IFBLK or device not in self._devices:
                    self.left_out.append(f"/{path}")
                    return
                member.devmajor, member.devminor = device
            yield self._linked(member, facts) or _header(member)

    def _linked(self, member: tarfile.TarInfo, facts: os.stat_result) -> bytes | None:
        """The header of another name of what is in the tar already; None of what is not."""
        if facts.st_nlink < 2:
            return None
        first = self._links.setdefault((facts.st_dev, facts.st_ino), member.name)
        if first == member.name:
            return None
        member.type, member.linkname, member.size = tarfile.LNKTYPE, first, 0
        return _header(member)

    def _file(self, parent: int, name: str, path: str) -> Iterator[bytes]:
        # Not blocking: it may have become a pipe that nobody writes to.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            fd = os.open(name, flags, dir_fd=parent)
        except OSError as error:
            if error.errno in (*_GONE, errno.ENXIO):
                return
            raise
        try:
            facts = os.fstat(fd)
            if not stat.S_ISREG(facts.st_mode):
                return
            member = _member(path, facts)
            if link := self._linked(member, facts):
                yield link
                return
            yield from _content(fd, member, facts, _attributes(fd, path))
        finally:
            os.close(fd)


def _member(path: str, facts: os.stat_result) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.type = _KINDS[stat.S_IFMT(facts.st_mode)]
    member.mode = stat.S_IMODE(facts.st_mode)
    member.uid, member.gid = facts.st_uid, facts.st_gid
    seconds, fraction = divmod(facts.st_mtime_ns, 10**9)
    member.mtime = max(seconds, 0)
    if seconds < 0:
        # Pax has a sign in front of the whole: -0.5 is half a second before.
        whole = -facts.st_mtime_ns
        member.pax_headers = {"mtime": f"-{whole // 10**9}.{whole % 10**9:09d}"}
    elif fraction:
        member.pax_headers = {"mtime": f"{seconds}.{fraction:09d}"}
    return member


def _header(member: tarfile.TarInfo, attributes: dict[str, str] | None = None) -> bytes:
    member.pax_headers = {**member.pax_headers, **(attributes or {})}
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _whiteout(path: str) -> bytes:
    directory, _, name = path.rpartition("/")
    mark = tarfile.TarInfo(f"{directory}/.wh.{name}".lstrip("/"))
    mark.mode = 0o600
    return _header(mark)


def _attributes(fd: int, path: str) -> dict[str, str]:
    """Extended attributes as pax records. Raises Unsupported for those without which the rest is wrong."""
    found: dict[str, str] = {}
    try:
        names = os.listxattr(fd)
    except OSError as error:
        if error.errno not in _WITHOUT:
            raise
        return found
    for name in names:
        if name in _ELSEWHERE:
            raise Unsupported(
                "Making an image of this container",
                "overlayfs without redirect_dir and metacopy",
                hint="Turn them off: modprobe overlay redirect_dir=off metacopy=off.",
                path=f"/{path}",
            )
        if name.startswith(_NOT_KEPT) or "=" in name:  # a pax record's name ends there
            continue
        try:
            value = os.getxattr(fd, name)
            found[f"SCHILY.xattr.{name}".encode().decode()] = value.decode(
                "utf-8", "surrogateescape"
            )
        except UnicodeEncodeError:
            continue  # a name that is no text
        except OSError as error:
            if error.errno not in _WITHOUT:  # gone since
                raise
    return found


def _is_opaque(fd: int) -> bool:
    try:
        return os.getxattr(fd, _OPAQUE) == b"y"
    except OSError as error:
        if error.errno not in _WITHOUT:
            raise
        return False


def _content(
    fd: int, member: tarfile.TarInfo, facts: os.stat_result, attributes: dict[str, str]
) -> Iterator[bytes]:
    """Header and data; of one with large holes only what is between them (GNU's format 1.0 in pax)."""
    member.size = facts.st_size
    pieces = [(0, facts.st_size)]
    if facts.st_size - facts.st_blocks * _SECTOR >= _HOLES_FROM:
        pieces = _pieces(fd, facts.st_size)
    if pieces == [(0, facts.st_size)]:
        yield _header(member, attributes)
    else:
        lines = [len(pieces), *(number for piece in pieces for number in piece)]
        table = "".join(f"{line}\n" for line in lines).encode()
        table = table.ljust(-(-len(table) // _SECTOR) * _SECTOR, b"\0")
        directory, _, name = member.name.rpartition("/")
        sparse = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": member.name,
            "GNU.sparse.realsize": str(facts.st_size),
        }
        member.name = f"{directory}/GNUSparseFile.0/{name}".lstrip("/")
        member.size = len(table) + sum(length for _, length in pieces)
        yield _header(member, {**attributes, **sparse})
        yield table
    for start, length in pieces:
        end = start + length
        while start < end:
            wanted = min(_BLOCK, end - start)
            # As many as the header says, whatever the file has become: zeros where it was cut.
            block = os.pread(fd, wanted, start) or bytes(wanted)
            yield block
            start += len(block)
    yield bytes(-member.size % _SECTOR)


def _pieces(fd: int, size: int) -> list[tuple[int, int]]:
    """(offset, length) of what is between the holes; all of it when there are too many."""
    found: list[tuple[int, int]] = []
    at = 0
    while at < size and len(found) < _MOST_PIECES:
        try:
            begin = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return found or [(size, 0)]
            raise
        end = min(os.lseek(fd, begin, os.SEEK_HOLE), size)
        if begin >= end:
            break
        found.append((begin, end - begin))
        at = end
    return found if at >= size else [(0, size)]
