"""Content as registries keep it, packed and named by its digest, while it is needed here.

`blobs/sha256/<hex>` is whole, `<hex>.part` is on its way. An image's config stays as long as the image; a
layer's blob goes when the layer is unpacked. What an interrupted pull leaves is taken up by the next one,
or collected after a while (ImageStore.collect).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

from runtime.errors import DigestMismatch
from runtime.images.locking import held
from runtime.images.manifest import Descriptor
from runtime.store.files import write_atomic
from runtime.store.paths import Config


class BlobStore:
    def __init__(self, config: Config) -> None:
        self._config = config

    def path(self, blob: Descriptor) -> Path:
        return self._config.blobs / blob.hex

    def part(self, blob: Descriptor) -> Path:
        """The file a download goes to; its size is how far it has come."""
        return self._config.blobs / f"{blob.hex}.part"

    def lock(self, blob: Descriptor, cancelled: Callable[[], bool]) -> AbstractContextManager[None]:
        """Whoever downloads a blob holds it. Raises Cancelled."""
        return held(self._config.locks / f"blob-{blob.hex[:32]}", cancelled=cancelled)

    def open(self, blob: Descriptor) -> IO[bytes] | None:
        """The whole blob, or None when it is not here. What is damaged goes. Under its lock."""
        try:
            file = self.path(blob).open("rb")
        except FileNotFoundError:
            return None
        # Nothing was fsynced: after a crash a file may have its name, but not all its content.
        if _digest(file) != blob.digest:
            file.close()
            self.path(blob).unlink(missing_ok=True)
            return None
        file.seek(0)
        return file

    def complete(self, blob: Descriptor) -> IO[bytes]:
        """Turn the part into the blob, opened. Raises DigestMismatch, and the part is gone. Under its lock."""
        part = self.part(blob)
        file = part.open("rb")
        if _digest(file) != blob.digest:
            file.close()
            part.unlink()
            raise mismatch(blob)
        os.rename(part, self.path(blob))
        file.seek(0)
        return file

    def write(self, blob: Descriptor, data: bytes) -> None:
        """Keep a small one for good. Raises OSError."""
        self._config.blobs.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(self.path(blob), data)

    def discard(self, blob: Descriptor, *, part: bool = False) -> None:
        """Delete it, and its part if asked; who has it open may read on."""
        self.path(blob).unlink(missing_ok=True)
        if part:
            self.part(blob).unlink(missing_ok=True)


def mismatch(blob: Descriptor) -> DigestMismatch:
    return DigestMismatch(
        f"The registry sent other bytes than {blob.digest[:19]}… stands for.",
        hint="Try again; if it stays so, the registry or something before it is damaged.",
        field="reference",
    )


def _digest(file: IO[bytes]) -> str:
    return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"  # type: ignore[arg-type]
