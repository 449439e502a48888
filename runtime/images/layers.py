"""Unpacked layers on disk, each once, named by its chain.

`layers/<chain>/diff` is the content, `layer.json` beside it says what it is. A layer appears by rename,
complete or not at all.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

from runtime.errors import DigestMismatch, KernelFailure, error_context
from runtime.images.locking import held
from runtime.images.unpack import unpack
from runtime.kernel import syscalls
from runtime.model.image import ImageRecord
from runtime.store.files import fsync_directory, read_json, write_json
from runtime.store.leftovers import give_up
from runtime.store.paths import Config

_NAME = 32  # hex digits: 128 bits name a layer, and the overlay's option string stays short


def chain_id(parent: str, diff_id: str) -> str:
    """OCI image spec, "Layer ChainID"; `parent` is "" for the lowest layer."""
    if not parent:
        return diff_id
    return f"sha256:{hashlib.sha256(f'{parent} {diff_id}'.encode()).hexdigest()}"


def chain_ids(diff_ids: list[str]) -> list[str]:
    result: list[str] = []
    for diff_id in diff_ids:
        result.append(chain_id(result[-1] if result else "", diff_id))
    return result


def chains_of(record: ImageRecord) -> list[str]:
    """The chains of an image's layers, bottom first."""
    return chain_ids([layer.diff_id for layer in record.layers])


class LayerStore:
    """Chains are what `chain_id` returns: "sha256:<64 hex>"."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def path(self, chain: str) -> Path:
        return self._config.layers / self.name(chain)

    @staticmethod
    def name(chain: str) -> str:
        """The layer's directory in Config.layers."""
        return chain.removeprefix("sha256:")[:_NAME]

    def directory(self, chain: str) -> Path:
        """The unpacked content, overlay's lower directory."""
        return self.path(chain) / "diff"

    def has(self, chain: str) -> bool:
        return (self.path(chain) / "layer.json").exists()

    def size(self, chain: str) -> int:
        """Bytes of its files."""
        return int(read_json(self.path(chain) / "layer.json")["size"])

    def add(
        self,
        open_source: Callable[[], IO[bytes]],
        *,
        diff_id: str = "",
        parent: str = "",
        cancelled: Callable[[], bool] = lambda: False,
        progress: Callable[[int], None] = lambda _: None,
    ) -> tuple[str, str]:
        """Unpack a layer on top of `parent` (a chain) unless it is there. Returns (diff_id, chain).

        With `diff_id` given the content must have it: raises DigestMismatch otherwise. Raises
        ArchiveInvalid, StorageFull, Cancelled; nothing is left then. `progress` gets bytes of the source.
        """
        if diff_id:
            chain = chain_id(parent, diff_id)
            with self._lock(chain, cancelled):
                if not self.has(chain):
                    self._unpack(open_source, diff_id, parent, cancelled, progress)
            return diff_id, chain
        return self._unpack(open_source, "", parent, cancelled, progress)

    def _lock(self, chain: str, cancelled: Callable[[], bool]) -> AbstractContextManager[None]:
        """Whoever unpacks a layer holds it, so that nobody else does the same work."""
        return held(self._config.locks / f"layer-{self.name(chain)}", cancelled=cancelled)

    def _unpack(
        self,
        open_source: Callable[[], IO[bytes]],
        expected: str,
        parent: str,
        cancelled: Callable[[], bool],
        progress: Callable[[int], None],
    ) -> tuple[str, str]:
        temporary = self._config.tmp / f"layer-{secrets.token_hex(8)}"
        with error_context("unpack", layer=expected):
            try:
                (temporary / "diff").mkdir(parents=True)
                (temporary / "diff").chmod(0o755)
                with open_source() as source:
                    done = unpack(
                        source,
                        str(temporary / "diff"),
                        whole=not expected,
                        cancelled=cancelled,
                        progress=progress,
                    )
                if expected and done.diff_id != expected:
                    raise DigestMismatch(
                        f"A layer's content is {done.diff_id[:19]}…, not {expected[:19]}… as its "
                        "image says.",
                        hint="The registry or archive is damaged; try another source.",
                    )
                chain = chain_id(parent, done.diff_id)
                facts = {"diff_id": done.diff_id, "parent": parent, "size": done.size, "version": 1}
                write_json(temporary / "layer.json", facts, durable=False)
                self._publish(temporary, chain)
            finally:
                give_up(self._config, temporary)
        return done.diff_id, chain

    def _publish(self, temporary: Path, chain: str) -> None:
        final = self.path(chain)
        final.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Content before name: a crash must not leave a layer that only looks complete.
        fd = os.open(temporary, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syscalls.syncfs(fd)
        except KernelFailure as error:
            raise OSError(error.errno, os.strerror(error.errno), str(temporary)) from error
        finally:
            os.close(fd)
        try:
            temporary.rename(final)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY) or not self.has(chain):
                raise
            return  # somebody unpacked the same content meanwhile
        fsync_directory(final.parent)

    def set_aside(self, name: str) -> Path | None:
        """Take a layer away at once; what is returned is for the caller to delete, at leisure."""
        doomed = self._config.tmp / f"gone-{secrets.token_hex(8)}"
        doomed.parent.mkdir(parents=True, exist_ok=True)
        try:
            (self._config.layers / name).rename(doomed)
        except FileNotFoundError:
            return None
        return doomed
