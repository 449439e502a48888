"""Compressed streams by their first bytes, and readers that hash and count what passes."""

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

_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
)
BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError)


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


def compression(head: bytes) -> str:
    """ "gzip", "zstd", "xz", "bzip2", or "" for none that we know."""
    return next((name for magic, name in _MAGIC if head.startswith(magic)), "")


def decompressed(source: Peekable) -> IO[bytes]:
    """The plain stream of `source`, whatever it was packed with."""
    buffered = io.BufferedReader(source, 1 << 18)
    opened: dict[str, Callable[[], Any]] = {
        "gzip": lambda: gzip.GzipFile(fileobj=buffered, mode="rb"),
        "zstd": lambda: zstandard.ZstdDecompressor().stream_reader(
            buffered, read_across_frames=True
        ),
        "xz": lambda: lzma.LZMAFile(buffered),  # noqa: SIM115 - the caller closes what is below
        "bzip2": lambda: bz2.BZ2File(buffered),
        "": lambda: buffered,
    }
    plain: IO[bytes] = opened[compression(source.peek(6))]()
    return plain


class Tap:
    """Passes a stream on while it hashes, counts, watches for bombs and for a cancellation."""

    def __init__(
        self,
        plain: IO[bytes],
        packed: Peekable,
        *,
        max_bytes: int,
        max_ratio: int,
        ratio_from: int,
        cancelled: Callable[[], bool] = lambda: False,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._plain, self._packed = plain, packed
        self._max_bytes, self._max_ratio, self._ratio_from = max_bytes, max_ratio, ratio_from
        self._cancelled, self._progress = cancelled, progress
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def read(self, size: int = -1) -> bytes:
        try:
            data = self._plain.read(1 << 18 if size < 0 else size)
        except BROKEN as error:
            raise ArchiveInvalid(
                f"The archive is damaged: {error}.",
                hint="Make or download it again.",
            ) from error
        self._hash.update(data)
        self.size += len(data)
        if self.size > self._max_bytes:
            raise ArchiveInvalid(
                f"The archive unpacks to more than {self._max_bytes >> 20} MiB.",
                hint="If it is meant to be that large, raise SLIPWAY_MAX_LAYER_BYTES.",
            )
        packed = max(self._packed.count, 1)
        if self.size > self._ratio_from and self.size // packed > self._max_ratio:
            raise ArchiveInvalid(
                f"The archive unpacks to more than {self._max_ratio} times its size: a "
                "decompression bomb?",
                hint="Pack it less tightly if it is genuine.",
            )
        if self._cancelled():
            raise Cancelled("The operation was cancelled.")
        self._progress(self._packed.count)
        return data

    def drain(self) -> None:
        """Read what is left, so that the digest covers everything."""
        while self.read(1 << 18):
            pass
