"""Tar archives as a stream of entries: POSIX ustar and pax, GNU, and what came before.

Why not tarfile: it takes a damaged header for the end of the archive, reads a long name or a pax record of
any size into memory, and rounds times. This reader raises ArchiveInvalid for everything it does not
understand and holds no more than one extended header (1 MiB) at a time.

Sources: POSIX.1-2017, pax; the GNU tar manual, "Tar Internals"; SCHILY.xattr as star and Docker write it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NoReturn

from runtime.errors import ArchiveInvalid

FILE = "file"
HARD_LINK = "hard link"
SYMLINK = "symbolic link"
CHARACTER = "character device"
BLOCK = "block device"
DIRECTORY = "directory"
FIFO = "fifo"
_KINDS = {
    b"0": FILE, b"\0": FILE, b"7": FILE, b"S": FILE, b"1": HARD_LINK, b"2": SYMLINK,
    b"3": CHARACTER, b"4": BLOCK, b"5": DIRECTORY, b"6": FIFO,
}  # fmt: skip
_SECTOR = 512
_ZEROS = bytes(_SECTOR)
_MAX_EXTENDED = 1 << 20  # bytes of one long name or pax record
_MAX_SEGMENTS = 1 << 16  # of a sparse file
_CHUNK = 1 << 18
_XATTR = b"SCHILY.xattr."
_TIME = re.compile(rb"(-?)([0-9]{1,20})(?:\.([0-9]{0,40}))?")
_MAX_TIME = 1 << 34  # seconds, the year 2514: beyond what file systems keep
_SECOND = 1_000_000_000  # ns

Segment = tuple[int, int]


@dataclass(slots=True)
class Entry:
    """One member. Names are as written, decoded as the file system's are (surrogateescape)."""

    name: str
    kind: str
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int = 0  # bytes of the file, holes included
    mtime: int = 0  # ns since the epoch
    link: str = ""
    device: tuple[int, int] = (0, 0)
    xattrs: dict[str, bytes] = field(default_factory=dict)
    stored: int = 0  # bytes in the archive
    segments: list[Segment] | None = None  # (offset, length) of a sparse file's data


class TarReader:
    """Iterate for the entries, in order; `content()` yields the current one's data.

    `read(n)` returns up to n bytes and b"" at the end, as a buffered file does. `whole` demands the end
    marker, without which an archive may have been cut off between two entries.
    """

    def __init__(self, read: Callable[[int], bytes], *, whole: bool = False) -> None:
        self._read = read
        self._whole = whole
        self._left = 0  # bytes of the current entry's data and padding
        self._padding = 0
        self._segments: list[Segment] = []
        self._position = 0  # bytes read, for errors

    def __iter__(self) -> Iterator[Entry]:
        while (entry := self._next()) is not None:
            yield entry

    def content(self) -> Iterator[tuple[int, bytes]]:
        """(offset in the file, bytes) of the current entry, once."""
        for offset, length in self._segments:
            end = offset + length
            while offset < end:
                data = self._exactly(min(_CHUNK, end - offset))
                self._left -= len(data)
                yield offset, data
                offset += len(data)
        self._segments = []

    # -- one entry ----------------------------------------------------------------------------

    def _next(self) -> Entry | None:
        self._skip(self._left + self._padding)
        self._left = self._padding = 0
        pax: dict[bytes, bytes] = {}
        long: dict[bytes, bytes] = {}  # GNU: b"L" the name, b"K" the link's target
        while True:
            block = self._block()
            if block is None:
                if pax or long:
                    self._fail("it ends in the middle of an entry")
                return None
            kind = block[156:157]
            size = _number(block[124:136], self._fail)
            if kind in b"LK":
                long[kind] = self._extended(size).rstrip(b"\0")
            elif kind in b"xX":
                pax.update(self._records(self._extended(size)))
            elif kind == b"g":
                self._extended(size)  # of the whole archive; nothing in it concerns a layer
            elif kind == b"V":
                self._skip(_padded(size))  # a GNU volume label
            else:
                return self._entry(block, kind, size, pax, long)

    def _block(self) -> bytes | None:
        """The next header, or None at the end."""
        block = self._read(_SECTOR)
        while 0 < len(block) < _SECTOR and (more := self._read(_SECTOR - len(block))):
            block += more
        if not block:
            if self._whole or self._position == 0:
                self._fail("it has no end" if self._position else "it is empty")
            return None
        if len(block) < _SECTOR:
            self._fail("it ends in the middle of a header")
        self._position += _SECTOR
        if block == _ZEROS:
            return None
        expected = _number(block[148:156], self._fail)
        found = sum(block) - sum(block[148:156]) + 8 * 0x20
        if found != expected:
            first = self._position == _SECTOR
            self._fail(
                "it does not begin like one" if first else "the checksum of a header is wrong"
            )
        return block

    def _entry(
        self,
        block: bytes,
        flag: bytes,
        size: int,
        pax: dict[bytes, bytes],
        long: dict[bytes, bytes],
    ) -> Entry:
        kind = _KINDS.get(flag)
        if kind is None:
            self._fail(f"it holds an entry of the unknown type {flag!r}")
        name = _text(block[:100])
        if block[257:263] == b"ustar\0" and block[345] != 0:
            name = _text(block[345:500]) + b"/" + name
        name = pax.get(b"GNU.sparse.name") or pax.get(b"path") or long.get(b"L") or name
        link = pax.get(b"linkpath") or long.get(b"K") or _text(block[157:257])
        if kind == FILE and flag in b"0\0" and name.endswith(b"/"):
            kind = DIRECTORY  # how it was written before there was a type for it
        if b"size" in pax:
            size = self._decimal(pax[b"size"])
        entry = Entry(
            name=os.fsdecode(name),
            kind=kind,
            mode=_number(block[100:108], self._fail) & 0o7777,
            uid=self._id(pax, b"uid", block[108:116]),
            gid=self._id(pax, b"gid", block[116:124]),
            mtime=self._time(pax, block[136:148]),
            link=os.fsdecode(link),
        )
        if kind in (CHARACTER, BLOCK):
            entry.device = (
                _number(block[329:337], self._fail),
                _number(block[337:345], self._fail),
            )
        for key, value in pax.items():
            if key.startswith(_XATTR):
                entry.xattrs[os.fsdecode(key.removeprefix(_XATTR))] = value
        if kind == FILE:
            self._place(entry, block, flag, size, pax)
        return entry

    def _place(
        self, entry: Entry, block: bytes, flag: bytes, size: int, pax: dict[bytes, bytes]
    ) -> None:
        """Where the file's data are, in the archive and in the file."""
        entry.stored = entry.size = self._left = size
        self._padding = _padded(size) - size
        self._segments = [(0, size)]
        if flag == b"S":
            entry.size, self._segments = self._gnu_sparse(block)
        elif b"GNU.sparse.major" in pax:
            if pax[b"GNU.sparse.major"] != b"1":
                self._fail("it holds a sparse file in a form that is not known")
            entry.size = self._decimal(pax.get(b"GNU.sparse.realsize", b""))
            self._segments = self._pax_sparse()
        elif any(key.startswith(b"GNU.sparse.") for key in pax):
            self._fail("it holds a sparse file in a form that is not known")
        else:
            return
        end = 0
        for offset, length in self._segments:
            if offset < end or offset + length > entry.size:
                self._fail(f"the sparse file {entry.name} makes no sense")
            end = offset + length
        if sum(length for _, length in self._segments) != self._left:
            self._fail(f"the sparse file {entry.name} makes no sense")
        entry.segments = self._segments

    def _gnu_sparse(self, block: bytes) -> tuple[int, list[Segment]]:
        size = _number(block[483:495], self._fail)
        found = self._map(block[386:482], 4)
        more = block[482] != 0
        while more:
            block = self._exactly(_SECTOR)
            found += self._map(block, 21)
            more = block[504] != 0
            if len(found) > _MAX_SEGMENTS:
                self._fail("it holds a sparse file of too many pieces")
        return size, found

    def _map(self, data: bytes, count: int) -> list[Segment]:
        pairs = [data[24 * i : 24 * i + 24] for i in range(count)]
        return [
            (_number(pair[:12], self._fail), _number(pair[12:], self._fail))
            for pair in pairs
            if pair[0] or pair[12]
        ]

    def _pax_sparse(self) -> list[Segment]:
        """Format 1.0: the map is decimal lines before the data, filled up to a whole block."""
        text, used = b"", 0

        def line() -> int:
            nonlocal text, used
            while b"\n" not in text:
                if self._left < _SECTOR or len(text) > 64:
                    self._fail("the map of a sparse file cannot be read")
                text += self._exactly(_SECTOR)
                self._left -= _SECTOR
            number, _, text = text.partition(b"\n")
            return self._decimal(number)

        count = line()
        if count > _MAX_SEGMENTS:
            self._fail("it holds a sparse file of too many pieces")
        return [(line(), line()) for _ in range(count)]

    # -- fields -------------------------------------------------------------------------------

    def _extended(self, size: int) -> bytes:
        if size > _MAX_EXTENDED:
            self._fail(f"it holds a name or a header of {size} bytes")
        return self._exactly(_padded(size))[:size]

    def _records(self, data: bytes) -> dict[bytes, bytes]:
        """Pax records: "<length> <key>=<value>\\n", the length of the whole record in decimal."""
        found: dict[bytes, bytes] = {}
        at = 0
        while at < len(data):
            space = data.find(b" ", at, at + 12)
            length = self._decimal(data[at:space]) if space > 0 else 0
            end = at + length
            equals = data.find(b"=", space, end)
            if length == 0 or end > len(data) or equals < 0 or data[end - 1] != 0x0A:
                self._fail("an extended header cannot be read")
            found[data[space + 1 : equals]] = data[equals + 1 : end - 1]
            at = end
        return found

    def _decimal(self, text: bytes) -> int:
        if not re.fullmatch(rb"[0-9]{1,18}", text):
            self._fail(f"{text[:20]!r} is no number")
        return int(text)

    def _id(self, pax: dict[bytes, bytes], key: bytes, plain: bytes) -> int:
        value = self._decimal(pax[key]) if key in pax else _number(plain, self._fail)
        if value >= 0xFFFFFFFF:
            self._fail(f"{value} is no {key.decode()}")
        return value

    def _time(self, pax: dict[bytes, bytes], plain: bytes) -> int:
        text = pax.get(b"mtime")
        if text is None:
            return min(_number(plain, self._fail, negative=True), _MAX_TIME) * _SECOND
        match = _TIME.fullmatch(text)
        if match is None:
            self._fail(f"{text[:20]!r} is no time")
        sign, whole, fraction = match.groups(default=b"")
        time = min(int(whole), _MAX_TIME) * _SECOND + int(fraction[:9].ljust(9, b"0"))
        return -time if sign else time

    # -- bytes --------------------------------------------------------------------------------

    def _exactly(self, size: int) -> bytes:
        data = self._read(size)
        if len(data) < size:
            parts = [data]
            missing = size - len(data)
            while missing and (more := self._read(missing)):
                parts.append(more)
                missing -= len(more)
            if missing:
                self._fail("it ends in the middle of an entry")
            data = b"".join(parts)
        self._position += size
        return data

    def _skip(self, size: int) -> None:
        while size:
            size -= len(self._exactly(min(_CHUNK, size)))

    def _fail(self, why: str) -> NoReturn:
        raise ArchiveInvalid(
            f"The file is not a tar archive, or it is damaged: {why}.",
            hint="Give a root file system tar, or the output of docker save, as it was written; "
            "gzip, zstd, xz and bzip2 are fine.",
            offset=self._position,
        )


def _padded(size: int) -> int:
    return -(-size // _SECTOR) * _SECTOR


def _text(raw: bytes) -> bytes:
    return raw.partition(b"\0")[0]


def _number(raw: bytes, fail: Callable[[str], NoReturn], *, negative: bool = False) -> int:
    """Octal text, or GNU's base 256 when the first bit is set."""
    if raw[0] & 0x80:
        if raw[0] == 0xFF and negative:
            return max(int.from_bytes(raw, "big", signed=True), -_MAX_TIME)
        value = int.from_bytes(bytes([raw[0] & 0x7F]) + raw[1:], "big")
        if value >= 1 << 62:
            fail("a number in a header is absurd")
        return value
    text = raw.strip(b"\0 ").partition(b"\0")[0].rstrip(b" ")
    if not text:
        return 0
    try:
        # int() knows signs and underscores too, which no header holds.
        return int(text, 8) if text.isdigit() else fail(f"{raw!r} is no number")
    except ValueError:
        fail(f"{raw!r} is no number")
