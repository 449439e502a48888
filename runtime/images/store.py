"""The images of one host: records on disk, shared layers, and the ways in and out."""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from runtime.errors import (
    ArchiveInvalid,
    DigestMismatch,
    EngineError,
    ImageInUse,
    LockTimeout,
    NotFound,
    SpecInvalid,
    error_context,
)
from runtime.images import archives
from runtime.images.blobs import BlobStore
from runtime.images.config import derived, diff_ids, parse_config, to_record
from runtime.images.garbage import GRACE, set_aside
from runtime.images.importing import Import
from runtime.images.layers import LayerStore, chain_ids, chains_of
from runtime.images.locking import held
from runtime.images.manifest import Descriptor
from runtime.images.starter import build_starter
from runtime.model.codec import from_json, to_json
from runtime.model.image import ImageChanges, ImageRecord, Progress
from runtime.model.reference import Reference
from runtime.store.bundles import BundleStore
from runtime.store.files import read_json, write_json
from runtime.store.leftovers import give_up
from runtime.store.locks import locked
from runtime.store.paths import Config
from runtime.store.trees import remove_tree

logger = logging.getLogger(__name__)

_HEX = re.compile(r"[0-9a-f]{64}")

Report = Callable[[Progress], None]


def _silent(_: Progress) -> None:
    return None


def _never() -> bool:
    return False


class ImageStore:
    """Safe to use from several threads and processes. An image is its config's digest.

    Whoever brings something in holds `images-incoming` shared; garbage is collected under the same lock
    held alone, so that nothing goes that a pull has seen and counts on.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self.layers = LayerStore(config)
        self.blobs = BlobStore(config)

    # -- looking ------------------------------------------------------------------------------

    def get(self, image_id: str) -> ImageRecord:
        """Raises NotFound, or EngineError when its file is damaged."""
        path = self._path(image_id)
        try:
            return _load(str(path), path.stat().st_mtime_ns)
        except FileNotFoundError:
            raise NotFound(
                f"Image {image_id[7:19]} is not on this host.",
                hint="Pull or import it.",
                field="image",
            ) from None
        except (ValueError, SpecInvalid) as error:
            raise EngineError(
                f"The record of image {image_id[7:19]} is damaged: {error}.",
                hint="Remove the image, then pull or import it again.",
                path=str(path),
            ) from error

    def records(self) -> list[ImageRecord]:
        """Every image; one whose file is damaged is left out."""
        found = []
        for image_id in self._ids():
            with suppress(EngineError):
                found.append(self.get(image_id))
        return found

    def layer_dirs(self, image_id: str) -> list[Path]:
        """Unpacked layers, bottom first. Raises NotFound for the image or a layer that is gone."""
        record = self.get(image_id)
        result = []
        for chain in chains_of(record):
            directory = self.layers.directory(chain)
            if not directory.is_dir():
                raise NotFound(
                    f"A layer of image {image_id[7:19]} is missing on this host.",
                    hint="Pull or import the image again.",
                    field="image",
                )
            result.append(directory)
        return result

    def config_of(self, image_id: str) -> bytes:
        """Its config as it was written. Raises NotFound."""
        config = self.blobs.open(Descriptor(image_id, 0))
        if config is None:
            raise NotFound(
                f"The config of image {image_id[7:19]} is missing on this host.",
                hint="Pull or import the image again.",
                field="image",
            )
        with config:
            return config.read()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Around what reads layers for a while: an image that is removed meanwhile leaves them until the end."""
        with self._incoming(_never):
            yield

    def _path(self, image_id: str) -> Path:
        digest = image_id.removeprefix("sha256:")
        if not _HEX.fullmatch(digest):
            raise NotFound(f"{image_id[:80]!r} is no image id.", field="image")
        return self._config.images / f"{digest}.json"

    def _ids(self) -> list[str]:
        """Raises OSError when the directory cannot be read."""
        try:
            names = os.listdir(self._config.images)
        except FileNotFoundError:
            return []
        stems = sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))
        return [f"sha256:{stem}" for stem in stems if _HEX.fullmatch(stem)]

    # -- coming in ----------------------------------------------------------------------------

    def pull(
        self,
        reference: Reference,
        *,
        credentials: tuple[str, str] | None = None,
        plain_http: bool = False,
        progress: Report = _silent,
        cancelled: Callable[[], bool] = _never,
    ) -> ImageRecord:
        """Fetch an image. `progress` is only called in the caller's thread.

        Raises RegistryError, AuthFailed, NotFound, DigestMismatch, ArchiveInvalid, StorageFull, Cancelled.
        Layers that were complete by then, and what a broken connection brought, stay for the next try.
        """
        from runtime.images.pull import Pull  # noqa: PLC0415 - httpx, only for who pulls
        from runtime.images.registry import RegistryClient  # noqa: PLC0415

        with (
            self._incoming(cancelled),
            error_context("pull", reference=reference.full),
            RegistryClient(
                reference.registry, credentials=credentials, plain_http=plain_http
            ) as client,
        ):
            raw, manifest_digest = Pull(
                layers=self.layers,
                blobs=self.blobs,
                reference=reference,
                client=client,
                progress=progress,
                cancelled=cancelled,
            ).run()
            return self._register(raw, manifest_digest, references=(reference.full,))

    def import_archive(
        self,
        path: Path,
        *,
        reference: str = "",
        progress: Report = _silent,
        cancelled: Callable[[], bool] = _never,
    ) -> ImageRecord:
        """Import a root file system tar, a `docker save` archive or an OCI archive, packed or not.

        Raises ArchiveInvalid, DigestMismatch, StorageFull, Cancelled; nothing is left then.
        """
        with self._incoming(cancelled), error_context("import"):
            coming = Import(self.layers, progress=progress, cancelled=cancelled)
            try:
                if not archives.is_image_archive(path, cancelled):
                    return self._register(*coming.root_file_system(path, reference))
                with self._temporary() as directory:
                    return self._register(*coming.image(path, directory))
            except (ArchiveInvalid, DigestMismatch) as error:
                error.extra.setdefault("field", "archive")
                raise

    def starter(self) -> ImageRecord:
        """The starter image, made of the host's busybox; the same again when it is there already."""
        with self._incoming(_never), error_context("starter"), self._temporary() as directory:
            document, tar = build_starter(directory / "layer.tar")
            coming = Import(self.layers, progress=_silent, cancelled=_never)
            return self._register(*coming.single_layer(tar, document))

    def derive(
        self,
        image_id: str,
        open_layer: Callable[[], IO[bytes]],
        changes: ImageChanges,
        *,
        created_by: str = "",
        progress: Callable[[int], None] = lambda _: None,
        cancelled: Callable[[], bool] = _never,
    ) -> ImageRecord:
        """A new image: the layers of `image_id` and above them the plain tar that `open_layer` opens.

        Raises NotFound, ArchiveInvalid, StorageFull, Cancelled, and what reading the tar raises.
        """
        with self._incoming(cancelled):
            document = parse_config(self.config_of(image_id))
            chains = chains_of(self.get(image_id))
            diff_id, _ = self.layers.add(
                open_layer,
                parent=chains[-1] if chains else "",
                cancelled=cancelled,
                progress=progress,
            )
            made = derived(document, diff_id, changes, created_by)
            return self._register(json.dumps(made, separators=(",", ":")).encode())

    @contextmanager
    def _incoming(self, cancelled: Callable[[], bool]) -> Iterator[None]:
        """Around everything that adds layers: none of them is collected before its image has a record."""
        with ExitStack() as stack:
            stack.callback(self.collect)
            stack.enter_context(held(self._gate, shared=True, cancelled=cancelled))
            yield

    def _register(
        self, raw: bytes, manifest_digest: str = "", references: tuple[str, ...] = ()
    ) -> ImageRecord:
        """Write the record last: an image is there when all of it is."""
        chains = chain_ids(diff_ids(parse_config(raw)))
        record = to_record(
            raw,
            sizes=[self.layers.size(c) for c in chains],
            manifest_digest=manifest_digest,
            references=references,
        )
        self._config.images.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.blobs.write(Descriptor(record.id, len(raw)), raw)
        path = self._path(record.id)
        was_there = path.exists()
        try:
            write_json(path, to_json(record))
        except BaseException:
            # Its last step comes after the file is in place.
            if not was_there:
                path.unlink(missing_ok=True)
            raise
        return record

    # -- going out ----------------------------------------------------------------------------

    def remove(self, image_id: str) -> None:
        """Forget the image, and delete the layers that no other image uses; nothing happens when it is gone.

        Raises ImageInUse when a container on this disk is made of it, whoever knows of that container.
        """
        path = self._path(image_id)
        with error_context("remove image", id=image_id):
            holders = [c for c, image in self._containers() if image == image_id]
            if holders:
                raise ImageInUse(
                    f"The image is in use by container {holders[0][:12]}.",
                    hint="Remove the containers that are made of it first.",
                    field="image",
                )
            path.unlink(missing_ok=True)
            self.collect(grace=0)

    def collect(self, grace: float = GRACE) -> None:
        """Delete what no image needs, see garbage.py; what a failed pull has left stays for `grace` seconds.

        Does nothing while something comes in: who comes in last collects. Raises nothing: garbage is no
        reason to fail.
        """
        doomed: list[Path] = []
        try:
            with locked(self._gate, timeout=0):
                ids = self._ids()
                lost = sorted({image for _, image in self._containers()} - set(ids))
                if lost:
                    # A container's layers are still there, but nobody knows any more which they are.
                    logger.warning("Containers are made of %s, which has no record.", lost[0][:19])
                    return
                doomed = set_aside(
                    self._config, self.layers, [self.get(image_id) for image_id in ids], grace
                )
        except LockTimeout:
            return
        except (OSError, EngineError) as error:
            logger.warning("No garbage of images was collected: %s", error)
        for path in doomed:
            try:
                remove_tree(path)
            except OSError as error:
                logger.warning("%s could not be deleted: %s", path, error)

    def _containers(self) -> list[tuple[str, str]]:
        """(id, image) of each container on disk, known to the database or not. Raises EngineError, OSError."""
        bundles = BundleStore(self._config)
        found = []
        for container_id in bundles.ids():
            with suppress(NotFound):
                found.append((container_id, bundles.spec(container_id).image))
        return found

    @property
    def _gate(self) -> Path:
        return self._config.locks / "images-incoming"

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        directory = self._config.tmp / f"import-{secrets.token_hex(8)}"
        directory.mkdir(parents=True)
        try:
            yield directory
        finally:
            give_up(self._config, directory)


@functools.lru_cache(maxsize=256)
def _load(path: str, _changed: int) -> ImageRecord:
    """A record; parsed again only when its file has changed."""
    return from_json(ImageRecord, read_json(path))
