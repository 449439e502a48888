"""Pull an image: its missing layers in parallel, unpacked in order as they arrive."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from runtime.errors import (
    ArchiveInvalid,
    Cancelled,
    DigestMismatch,
    NotFound,
    RegistryError,
    RegistryUnavailable,
    error_context,
)
from runtime.images.config import diff_ids, parse_config
from runtime.images.layers import LayerStore, chain_ids
from runtime.images.registry import RegistryClient
from runtime.model.image import Progress
from runtime.model.reference import Reference
from runtime.store.paths import Config

PARALLEL = 3  # downloads at a time, as Docker
_ATTEMPTS = 3
_MAX_CONFIG = 8 << 20  # bytes
_REPORT_EVERY = 1 << 20  # bytes

Report = Callable[[Progress], None]


def pull(
    *,
    config: Config,
    layers: LayerStore,
    reference: Reference,
    client: RegistryClient,
    progress: Report,
    cancelled: Callable[[], bool],
) -> tuple[bytes, str, list[str]]:
    """(config JSON as sent, manifest digest, diff ids); every layer is in `layers` then.

    Raises what RegistryClient and LayerStore raise. Layers that were complete stay when a later one
    fails: the next try begins there.
    """
    manifest, manifest_digest = client.manifest(reference)
    download = _Download(config, client, reference.repository, progress, cancelled)
    raw = download.small(manifest["config"])
    ids = diff_ids(parse_config(raw))
    descriptors = manifest["layers"]
    if len(ids) != len(descriptors):
        raise ArchiveInvalid("The image's manifest and config disagree about its layers.")
    chains = chain_ids(ids)
    missing = [not layers.has(chain) for chain in chains]
    for descriptor, needed in zip(descriptors, missing, strict=True):
        part, size = _part(descriptor), int(descriptor.get("size") or 0)
        progress(Progress(part, "waiting" if needed else "exists", 0 if needed else size, size))
    with download, ThreadPoolExecutor(PARALLEL, thread_name_prefix="pull") as pool:
        futures: list[Future[Path] | None] = [
            pool.submit(download.blob, d) if needed else None
            for d, needed in zip(descriptors, missing, strict=True)
        ]
        try:
            for index, future in enumerate(futures):
                if future is not None:
                    parent = chains[index - 1] if index else ""
                    _unpack(
                        layers, future.result(), descriptors[index], ids[index], parent,
                        progress, cancelled,
                    )  # fmt: skip
        finally:
            download.stop()
            for future in futures:
                if future is not None:
                    future.cancel()
    return raw, manifest_digest, ids


def _unpack(
    layers: LayerStore,
    blob: Path,
    descriptor: dict[str, Any],
    diff_id: str,
    parent: str,
    progress: Report,
    cancelled: Callable[[], bool],
) -> None:
    part, size = _part(descriptor), blob.stat().st_size
    reported = 0

    def report(done: int) -> None:
        nonlocal reported
        if done - reported >= _REPORT_EVERY:
            reported = done
            progress(Progress(part, "unpacking", done, size))

    progress(Progress(part, "unpacking", 0, size))
    layers.add(
        lambda: blob.open("rb"),
        diff_id=diff_id,
        parent=parent,
        cancelled=cancelled,
        progress=report,
    )
    blob.unlink(missing_ok=True)
    progress(Progress(part, "done", size, size))


def _part(descriptor: dict[str, Any]) -> str:
    return str(descriptor["digest"])[7:19]


class _Download:
    """The blobs of one pull, in files of its own below the temporary directory."""

    def __init__(
        self,
        config: Config,
        client: RegistryClient,
        repository: str,
        progress: Report,
        cancelled: Callable[[], bool],
    ) -> None:
        self._client = client
        self._repository = repository
        self._progress = progress
        self._cancelled = cancelled
        self._stopped = False
        self._directory = config.tmp / f"pull-{os.urandom(8).hex()}"

    def small(self, descriptor: dict[str, Any]) -> bytes:
        """A blob that fits into memory, checked."""
        digest, data = _digest(descriptor), b""
        with self._client.blob(self._repository, digest) as (chunks, _):
            for chunk in chunks:
                data += chunk
                if len(data) > _MAX_CONFIG:
                    raise RegistryError("The image's config is absurdly large.")
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            raise _mismatch(digest)
        return data

    def blob(self, descriptor: dict[str, Any]) -> Path:
        """Download one layer; a broken connection is taken up where it broke."""
        digest, size = _digest(descriptor), int(descriptor.get("size") or 0)
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / digest.removeprefix("sha256:")
        with error_context("download", layer=digest):
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    self._fetch(path, digest, size)
                    break
                except RegistryUnavailable as error:
                    if attempt == _ATTEMPTS or not error.retryable:
                        raise
            self._progress(Progress(digest[7:19], "verifying", size, size))
            with path.open("rb") as file:
                found = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
            if found != digest:
                path.unlink()
                raise _mismatch(digest)
        return path

    def _fetch(self, path: Path, digest: str, size: int) -> None:
        done = path.stat().st_size if path.exists() else 0
        reported = 0
        with self._client.blob(self._repository, digest, offset=done) as (chunks, begins):
            with path.open("r+b" if path.exists() else "wb") as file:
                file.seek(begins)
                file.truncate()
                done = begins
                for chunk in chunks:
                    file.write(chunk)
                    done += len(chunk)
                    if self._stopped or self._cancelled():
                        raise Cancelled("The pull was cancelled.")
                    if size and done > size:
                        raise _mismatch(digest)
                    if done - reported >= _REPORT_EVERY or done == size:
                        reported = done
                        self._progress(Progress(digest[7:19], "downloading", done, size))
        if size and done < size:
            raise RegistryUnavailable(
                f"The connection broke after {done} of {size} bytes.", field="reference"
            )

    def stop(self) -> None:
        """Whatever still downloads ends at its next chunk, and its files go."""
        self._stopped = True

    def __enter__(self) -> _Download:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)


def _digest(descriptor: dict[str, Any]) -> str:
    digest = str(descriptor.get("digest"))
    if not digest.startswith("sha256:") or len(digest) != len("sha256:") + 64:
        raise NotFound(f"{digest[:40]} is a digest of a kind that is not known here.")
    return digest


def _mismatch(digest: str) -> DigestMismatch:
    return DigestMismatch(
        f"The registry sent other bytes than {digest[:19]}… stands for.",
        hint="Try again; if it stays so, the registry or something before it is damaged.",
        field="reference",
    )
