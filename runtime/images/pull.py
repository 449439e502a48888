"""Pull an image: its missing layers in parallel, unpacked in order as they arrive."""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, TypeVar

from runtime.errors import (
    ArchiveInvalid,
    Cancelled,
    RegistryError,
    RegistryUnavailable,
    error_context,
)
from runtime.images.blobs import BlobStore, mismatch
from runtime.images.config import diff_ids, parse_config
from runtime.images.layers import LayerStore, chain_ids
from runtime.images.manifest import MAX_DOCUMENT, Descriptor
from runtime.images.registry import RegistryClient
from runtime.model.image import Progress
from runtime.model.reference import Reference

PARALLEL = 3  # downloads at a time, as Docker
_PATIENCE = (0.5, 2.0, 5.0)  # seconds before one more try, after each that brought nothing
_REPORT_EVERY = 0.25  # seconds between two steps of one layer
_LOOK = 0.2  # seconds between two looks at `cancelled`

T = TypeVar("T")


class Pull:
    """One pull, in the thread that calls `run`; only that thread ever calls `progress` and `cancelled`."""

    def __init__(
        self,
        *,
        layers: LayerStore,
        blobs: BlobStore,
        reference: Reference,
        client: RegistryClient,
        progress: Callable[[Progress], None],
        cancelled: Callable[[], bool],
    ) -> None:
        self._layers, self._blobs = layers, blobs
        self._reference, self._client = reference, client
        self._progress, self._cancelled = progress, cancelled
        self._steps: queue.SimpleQueue[Progress | None] = queue.SimpleQueue()
        self._wanted: list[Descriptor] = []
        self._futures: list[Future[IO[bytes] | None]] = []
        self._stop = threading.Event()
        self._keep = False  # what has arrived, for the next try

    def run(self) -> tuple[bytes, str]:
        """(config as sent, manifest digest); every layer is unpacked then.

        Raises what RegistryClient and LayerStore raise, and Cancelled. Layers that were complete stay when
        a later one fails, and so does what a broken connection brought: the next try begins there.
        """
        pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="pull")
        try:
            return self._run(pool)
        except RegistryUnavailable:
            self._keep = True
            raise
        finally:
            self._stop.set()
            self._client.abort()
            pool.shutdown(cancel_futures=True)
            for future in self._futures:
                _close(future)
            if not self._keep:
                for blob in self._wanted:
                    self._blobs.discard(blob)

    def _run(self, pool: ThreadPoolExecutor) -> tuple[bytes, str]:
        manifest, manifest_digest = self._wait(pool.submit(self._client.manifest, self._reference))
        raw = self._wait(pool.submit(self._config, manifest.config))
        ids = diff_ids(parse_config(raw))
        if len(ids) != len(manifest.layers):
            raise ArchiveInvalid("The image's manifest and config disagree about its layers.")
        chains = chain_ids(ids)
        missing = [not self._layers.has(chain) for chain in chains]
        for blob, needed in zip(manifest.layers, missing, strict=True):
            stage, done = ("waiting", 0) if needed else ("exists", blob.size)
            self._progress(Progress(blob.part, stage, done, blob.size))
        self._wanted = [
            blob for blob, needed in zip(manifest.layers, missing, strict=True) if needed
        ]
        self._futures = [
            pool.submit(self._fetch, blob, chain)
            for blob, chain, needed in zip(manifest.layers, chains, missing, strict=True)
            if needed
        ]
        futures = iter(self._futures)
        for index, blob in enumerate(manifest.layers):
            if missing[index]:
                file = self._wait(next(futures))
                if file is not None:
                    self._unpack(blob, file, ids[index], chains[index - 1] if index else "")
                self._blobs.discard(blob)
                self._progress(Progress(blob.part, "done", blob.size, blob.size))
        return raw, manifest_digest

    # -- in the caller's thread -----------------------------------------------------------------

    def _wait(self, future: Future[T]) -> T:
        """The future's result. Meanwhile steps are reported, and a failure of any layer is raised."""
        future.add_done_callback(lambda _: self._steps.put(None))
        while not future.done():
            self._report(_LOOK)
            if self._cancelled():
                raise Cancelled("The pull was cancelled.")
            for other in self._futures:
                if other.done() and (error := other.exception()) is not None:
                    raise error
        self._report(0)
        return future.result()

    def _report(self, patience: float) -> None:
        """Pass on the steps that the downloads have made; wait up to `patience` seconds for the first."""
        try:
            step = self._steps.get(timeout=patience) if patience else self._steps.get_nowait()
            while True:
                if step is not None:
                    self._progress(step)
                step = self._steps.get_nowait()
        except queue.Empty:
            pass

    def _unpack(self, blob: Descriptor, file: IO[bytes], diff_id: str, parent: str) -> None:
        reported = time.monotonic()

        def report(done: int) -> None:
            nonlocal reported
            self._report(0)
            if time.monotonic() - reported >= _REPORT_EVERY:
                reported = time.monotonic()
                self._progress(Progress(blob.part, "unpacking", done, blob.size))

        self._progress(Progress(blob.part, "unpacking", 0, blob.size))
        self._layers.add(
            lambda: file,
            diff_id=diff_id,
            parent=parent,
            cancelled=self._cancelled,
            progress=report,
        )

    # -- in the pool's threads ------------------------------------------------------------------

    def _config(self, blob: Descriptor) -> bytes:
        """A blob that fits into memory, checked."""
        data = b""
        with self._client.blob(self._reference.repository, blob.digest) as (chunks, _):
            for chunk in chunks:
                data += chunk
                if len(data) > MAX_DOCUMENT:
                    raise RegistryError("The image's config is absurdly large.", field="reference")
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != blob.digest:
            raise mismatch(blob)
        return data

    def _fetch(self, blob: Descriptor, chain: str) -> IO[bytes] | None:
        """The layer's blob, whole and open; None when somebody else has unpacked the layer meanwhile."""
        with (
            error_context("download", layer=blob.digest),
            self._blobs.lock(blob, self._stop.is_set),
        ):
            if self._layers.has(chain):
                return None
            file = self._blobs.open(blob)
            if file is not None:
                return file
            try:
                return self._download(blob)
            except BaseException as error:
                if not (self._keep or isinstance(error, RegistryUnavailable)):
                    self._blobs.part(blob).unlink(missing_ok=True)
                raise

    def _download(self, blob: Descriptor) -> IO[bytes]:
        """Bring the part to its full size, taking up broken connections where they broke."""
        part = self._blobs.part(blob)
        part.parent.mkdir(parents=True, exist_ok=True)
        resumed = part.exists() and 0 < part.stat().st_size <= blob.size
        waits = iter(_PATIENCE)
        while True:
            before = part.stat().st_size if part.exists() else 0
            try:
                if before < blob.size or blob.size == 0:
                    self._receive(blob, part)
                self._steps.put(Progress(blob.part, "verifying", blob.size, blob.size))
                return self._blobs.complete(blob)
            except RegistryUnavailable as error:
                if self._stop.is_set():
                    raise Cancelled("The pull was cancelled.") from error
                if not error.retryable:
                    raise
                if part.exists() and part.stat().st_size > before:
                    waits = iter(_PATIENCE)
                wait = next(waits, None)
                if wait is None:
                    error.retryable = False  # that was it
                    raise
                if self._stop.wait(wait):
                    raise Cancelled("The pull was cancelled.") from None
            except RegistryError:
                if not resumed:
                    raise
                # What an earlier pull had left was no good: once more from the beginning.
                resumed = False
                part.unlink(missing_ok=True)

    def _receive(self, blob: Descriptor, part: Path) -> None:
        done = part.stat().st_size if part.exists() else 0
        reported = time.monotonic()
        repository = self._reference.repository
        with (
            self._client.blob(repository, blob.digest, offset=done) as (chunks, begins),
            part.open("r+b" if part.exists() else "wb", buffering=0) as file,
        ):
            file.seek(begins)
            file.truncate()
            done = begins
            self._steps.put(Progress(blob.part, "downloading", done, blob.size))
            for chunk in chunks:
                if self._stop.is_set():
                    raise Cancelled("The pull was cancelled.")
                done += len(chunk)
                if done > blob.size:
                    raise mismatch(blob)
                _write(file, chunk)
                if time.monotonic() - reported >= _REPORT_EVERY or done == blob.size:
                    reported = time.monotonic()
                    self._steps.put(Progress(blob.part, "downloading", done, blob.size))
        if done < blob.size:
            raise RegistryUnavailable(
                f"The connection broke after {done} of {blob.size} bytes.", field="reference"
            )


def _write(file: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _close(future: Future[IO[bytes] | None]) -> None:
    if future.done() and not future.cancelled() and future.exception() is None:
        file = future.result()
        if file is not None:
            file.close()
