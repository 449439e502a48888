"""Compressed streams by their first bytes, and a reader that hashes and bounds what passes."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import zlib
from collections.abc import Callable
from typing import IO, Any

import zstandard

from runtime.errors import ArchiveInvalid, Cancelled
from runtime.images.limits import UnpackLimits

BLOCK = 1 << 18  # bytes moved at a time
_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
)
# A stream says how much memory its reader needs; xz -9 wants 65 MiB, a hostile one gigabytes.
_XZ_MEMORY = 256 << 20  # bytes
_BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError)


class Peekable(io.RawIOBase):
    """A stream whose first bytes can be looked at before it is read."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._head = b""
        self.count = 0  # bytes read by whoever is above

    def peek(self, size: int) -> bytes:
        while len(self._head) < size and (more := self._source.read(size - len(self._head))):
            self._head += more
        return self._head[:size]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        data = self._head[: len(view)]
        if data:
            self._head = self._head[len(data) :]
        else:
            data = self._source.read(len(view))
        view[: len(data)] = data
        self.count += len(data)
        return len(data)


class _Xz(io.RawIOBase):
    """lzma.LZMAFile, with a bound on the memory."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._stream: lzma.LZMADecompressor | None = None
        self._ahead = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        while True:
            if self._stream is None or self._stream.eof:
                if self._stream is not None:
                    self._ahead = self._stream.unused_data.lstrip(b"\0")
                self._ahead = self._ahead or self._source.read(BLOCK)
                if not self._ahead:
                    return 0
                self._stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
            elif self._stream.needs_input:
                self._ahead = self._source.read(BLOCK)
                if not self._ahead:
                    raise EOFError("it ends too early")
            data = self._stream.decompress(self._ahead, len(view))
            self._ahead = b""
            if data:
                view[: len(data)] = data
                return len(data)


def compression(head: bytes) -> str:
    """ "gzip", "zstd", "xz", "bzip2", or "" for none that we know."""
    return next((name for magic, name in _MAGIC if head.startswith(magic)), "")


def _decompressed(source: Peekable) -> IO[bytes]:
    """The plain stream of `source`, whatever it was packed with."""
    buffered = io.BufferedReader(source, BLOCK)
    opened: dict[str, Callable[[], Any]] = {
        "gzip": lambda: gzip.GzipFile(fileobj=buffered, mode="rb"),
        # Its own bound on memory is 128 MiB.
        "zstd": lambda: zstandard.ZstdDecompressor().stream_reader(
            buffered, read_across_frames=True
        ),
        "xz": lambda: _Xz(buffered),
        "bzip2": lambda: bz2.BZ2File(buffered),
        "": lambda: buffered,
    }
    plain: IO[bytes] = opened[compression(source.peek(6))]()
    return plain


class Plain(io.RawIOBase):
    """What a (compressed) source unpacks to; hashed, counted, bounded, and cancelled in passing.

    Raises ArchiveInvalid for a damaged stream and for a bomb, and Cancelled. `progress` gets the packed
    bytes read so far. Wrap it in io.BufferedReader for small reads.
    """

    def __init__(
        self,
        source: IO[bytes],
        bounds: UnpackLimits,
        *,
        cancelled: Callable[[], bool] = lambda: False,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._packed = Peekable(source)
        self._bounds = bounds
        self._cancelled, self._progress = cancelled, progress
        self._hash = hashlib.sha256()
        self.size = 0  # bytes so far
        try:
            self._plain = _decompressed(self._packed)
        except _BROKEN as error:
            raise _damaged(error) from error

    @property
    def digest(self) -> str:
        """Of all that has passed, "sha256:…"."""
        return f"sha256:{self._hash.hexdigest()}"

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._cancelled():
            raise Cancelled("The operation was cancelled.")
        view = memoryview(buffer)
        try:
            data = self._plain.read(len(view))
        except _BROKEN as error:
            raise _damaged(error) from error
        view[: len(data)] = data
        self._hash.update(data)
        self.size += len(data)
        self._check()
        self._progress(self._packed.count)
        return len(data)

    def _check(self) -> None:
        if self.size > self._bounds.max_bytes:
            raise ArchiveInvalid(
                f"The archive unpacks to more than {self._bounds.max_bytes >> 20} MiB.",
                hint="If it is meant to be that large, raise SLIPWAY_MAX_LAYER_BYTES.",
            )
        packed = max(self._packed.count, 1)
        if self.size > self._bounds.ratio_from and self.size // packed > self._bounds.max_ratio:
            raise ArchiveInvalid(
                f"The archive unpacks to more than {self._bounds.max_ratio} times its size: a "
                "decompression bomb?",
                hint="If it is genuine, pack it less tightly or raise SLIPWAY_MAX_LAYER_RATIO.",
            )


def _damaged(error: BaseException) -> ArchiveInvalid:
    return ArchiveInvalid(
        f"The archive is damaged: {error}.",
        hint="Make or download it again.",
    )
