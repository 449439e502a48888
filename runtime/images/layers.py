"""Unpacked layers on disk, each once, named by its chain.

`layers/<chain>/diff` is the content, `layer.json` beside it says what it is. A layer appears by rename,
complete or not at all.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

from runtime.errors import DigestMismatch, error_context
from runtime.images.unpack import unpack
from runtime.store.files import read_json, write_json
from runtime.store.locks import discard, locked
from runtime.store.paths import Config

_NAME = 32  # hex digits: 128 bits name a layer, and the overlay's option string stays short
_LOCK_TIMEOUT = 3600.0  # seconds: another pull unpacks the same layer


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


class LayerStore:
    def __init__(self, config: Config) -> None:
        self._config = config

    def path(self, chain: str) -> Path:
        return self._config.layers / chain.removeprefix("sha256:")[:_NAME]

    def directory(self, chain: str) -> Path:
        """The unpacked content, overlay's lower directory."""
        return self.path(chain) / "diff"

    def has(self, chain: str) -> bool:
        return (self.path(chain) / "layer.json").exists()

    def size(self, chain: str) -> int:
        """Bytes of its files."""
        return int(read_json(self.path(chain) / "layer.json")["size"])

    def lock(self, chain: str) -> AbstractContextManager[None]:
        name = chain.removeprefix("sha256:")[:_NAME]
        return locked(self._config.locks / f"layer-{name}", timeout=_LOCK_TIMEOUT)

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
        ArchiveInvalid, StorageFull, Cancelled; nothing is left then.
        """
        if diff_id:
            chain = chain_id(parent, diff_id)
            with self.lock(chain):
                if not self.has(chain):
                    self._unpack(open_source, diff_id, parent, cancelled, progress)
            return diff_id, chain
        return self._unpack(open_source, "", parent, cancelled, progress)

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
                        source, str(temporary / "diff"), cancelled=cancelled, progress=progress
                    )
                if expected and done.diff_id != expected:
                    raise DigestMismatch(
                        f"A layer's content is {done.diff_id[:19]}…, not {expected[:19]}… as its "
                        "image says.",
                        hint="The registry or archive is damaged; try another source.",
                    )
                chain = chain_id(parent, done.diff_id)
                facts = {"diff_id": done.diff_id, "parent": parent, "size": done.size, "version": 1}
                write_json(temporary / "layer.json", facts)
                self._publish(temporary, chain)
            finally:
                if temporary.exists():
                    shutil.rmtree(temporary, ignore_errors=True)
        return done.diff_id, chain

    def _publish(self, temporary: Path, chain: str) -> None:
        final = self.path(chain)
        final.parent.mkdir(parents=True, exist_ok=True)
        os.sync()  # content before name: a crash must not leave a layer that only looks complete
        try:
            temporary.rename(final)
        except OSError:
            if not self.has(chain):
                raise  # else somebody unpacked the same content meanwhile

    def remove(self, chain: str) -> None:
        """Delete it; nothing is missing when it is gone."""
        with self.lock(chain):
            path = self.path(chain)
            if path.exists():
                doomed = self._config.tmp / f"gone-{secrets.token_hex(8)}"
                doomed.parent.mkdir(parents=True, exist_ok=True)
                path.rename(doomed)
                shutil.rmtree(doomed)
            discard(self._config.locks / f"layer-{path.name}")

    def all_names(self) -> set[str]:
        try:
            return set(os.listdir(self._config.layers))
        except FileNotFoundError:
            return set()
