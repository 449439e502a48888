"""The images of one host: records on disk, shared layers, and the ways in and out."""

from __future__ import annotations

import functools
import json
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runtime.errors import ArchiveInvalid, NotFound, error_context
from runtime.images import archives
from runtime.images.config import diff_ids, parse_config, to_record
from runtime.images.layers import LayerStore, chain_ids
from runtime.images.manifest import architecture
from runtime.images.starter import build_starter
from runtime.model.codec import from_json, to_json
from runtime.model.image import ImageRecord, Progress
from runtime.model.reference import Reference
from runtime.store.files import read_json, write_json
from runtime.store.locks import locked
from runtime.store.paths import Config

Report = Callable[[Progress], None]
_ROOTFS_CONFIG: dict[str, Any] = {"os": "linux", "config": {"Cmd": ["/bin/sh"]}}


def _silent(_: Progress) -> None:
    return None


def _never() -> bool:
    return False


class ImageStore:
    """Safe to use from several threads and processes. An image is its config's digest."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.layers = LayerStore(config)

    # -- looking ------------------------------------------------------------------------------

    def get(self, image_id: str) -> ImageRecord:
        """Raises NotFound."""
        return self._record(self._path(image_id), image_id)

    def _record(self, path: Path, image_id: str) -> ImageRecord:
        try:
            return _load(str(path), path.stat().st_mtime_ns)
        except FileNotFoundError:
            raise NotFound(
                f"Image {image_id[7:19]} is not on this host.",
                hint="Pull or import it.",
                field="image",
            ) from None

    def records(self) -> list[ImageRecord]:
        """Every image; one whose file is damaged is left out."""
        found = []
        for path in sorted(self._config.images.glob("*.json")):
            try:
                found.append(self._record(path, path.stem))
            except (NotFound, ValueError):
                continue
        return found

    def layer_dirs(self, image_id: str) -> list[Path]:
        """Unpacked layers, bottom first. Raises NotFound for the image or a layer that is gone."""
        record = self.get(image_id)
        result = []
        for chain in chain_ids([layer.diff_id for layer in record.layers]):
            directory = self.layers.directory(chain)
            if not directory.is_dir():
                raise NotFound(
                    f"A layer of image {image_id[7:19]} is missing on this host.",
                    hint="Pull or import the image again.",
                    field="image",
                )
            result.append(directory)
        return result

    def _path(self, image_id: str) -> Path:
        return self._config.images / f"{image_id.removeprefix('sha256:')}.json"

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
        """Fetch an image. Raises RegistryError, AuthFailed, NotFound, DigestMismatch, ArchiveInvalid,
        StorageFull, Cancelled; layers that were complete by then stay for the next try.
        """
        from runtime.images.pull import pull  # noqa: PLC0415 - httpx, only for who pulls
        from runtime.images.registry import RegistryClient  # noqa: PLC0415

        with (
            error_context("pull", reference=reference.full),
            RegistryClient(
                reference.registry, credentials=credentials, plain_http=plain_http
            ) as client,
        ):
            raw, manifest_digest, _ = pull(
                config=self._config,
                layers=self.layers,
                reference=reference,
                client=client,
                progress=progress,
                cancelled=cancelled,
            )
        return self._register(raw, manifest_digest=manifest_digest, references=(reference.full,))

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
        with error_context("import"):
            if archives.is_image_archive(path):
                return self._import_image(path, progress, cancelled)
            return self._import_rootfs(path, reference, progress, cancelled)

    def starter(self) -> ImageRecord:
        """The starter image, made of the host's busybox; the same again when it is there already."""
        with self._temporary() as directory:
            raw, tar = build_starter(directory / "layer.tar")
            return self._add_single(tar, json.loads(raw), _silent, _never)

    def _import_rootfs(
        self, path: Path, reference: str, progress: Report, cancelled: Callable[[], bool]
    ) -> ImageRecord:
        document = {
            **_ROOTFS_CONFIG,
            "architecture": architecture(),
            "history": [{"created_by": f"slipway: import of {reference or 'a root file system'}"}],
        }
        return self._add_single(path, document, progress, cancelled)

    def _add_single(
        self, tar: Path, document: dict[str, Any], progress: Report, cancelled: Callable[[], bool]
    ) -> ImageRecord:
        size = tar.stat().st_size

        def report(done: int) -> None:
            progress(Progress("", "unpacking", done, size))

        diff_id, _ = self.layers.add(lambda: tar.open("rb"), cancelled=cancelled, progress=report)
        progress(Progress("", "done", size, size))
        document["rootfs"] = {"type": "layers", "diff_ids": [diff_id]}
        raw = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
        return self._register(raw)

    def _import_image(
        self, path: Path, progress: Report, cancelled: Callable[[], bool]
    ) -> ImageRecord:
        with self._temporary() as directory:
            progress(Progress("", "verifying"))
            archives.extract(path, directory, cancelled)
            image = archives.open_image(directory)
            ids = diff_ids(parse_config(image.config))
            if len(ids) != len(image.layers):
                raise ArchiveInvalid(
                    f"The image has {len(image.layers)} layers, its config names {len(ids)}."
                )
            parent = ""
            for diff_id, layer in zip(ids, image.layers, strict=True):
                parent = self._import_layer(layer, diff_id, parent, progress, cancelled)
            names = tuple(Reference.parse(r).full for r in image.references)
            return self._register(
                image.config, manifest_digest=image.manifest_digest, references=names
            )

    def _import_layer(
        self,
        layer: Path,
        diff_id: str,
        parent: str,
        progress: Report,
        cancelled: Callable[[], bool],
    ) -> str:
        part, size = diff_id[7:19], layer.stat().st_size

        def report(done: int) -> None:
            progress(Progress(part, "unpacking", done, size))

        _, chain = self.layers.add(
            lambda: layer.open("rb"),
            diff_id=diff_id,
            parent=parent,
            cancelled=cancelled,
            progress=report,
        )
        progress(Progress(part, "done", size, size))
        return chain

    def _register(
        self, raw: bytes, *, manifest_digest: str = "", references: tuple[str, ...] = ()
    ) -> ImageRecord:
        """Write the record last: an image is there when all of it is."""
        chains = chain_ids(diff_ids(parse_config(raw)))
        record = to_record(
            raw,
            sizes=[self.layers.size(c) for c in chains],
            manifest_digest=manifest_digest,
            references=references,
        )
        with self._catalogue():
            self._config.images.mkdir(parents=True, exist_ok=True)
            self._config.blobs.mkdir(parents=True, exist_ok=True)
            (self._config.blobs / record.id.removeprefix("sha256:")).write_bytes(raw)
            write_json(self._path(record.id), to_json(record))
        return record

    # -- going out ----------------------------------------------------------------------------

    def remove(self, image_id: str) -> None:
        """Forget the image, and delete the layers that no other image uses; nothing happens when it is gone.

        That no container uses it is for the caller to know.
        """
        with self._catalogue(), error_context("remove image", id=image_id):
            try:
                record = self.get(image_id)
            except NotFound:
                return
            self._path(image_id).unlink(missing_ok=True)
            (self._config.blobs / image_id.removeprefix("sha256:")).unlink(missing_ok=True)
            kept = {
                chain
                for other in self.records()
                for chain in chain_ids([layer.diff_id for layer in other.layers])
            }
            chains = chain_ids([layer.diff_id for layer in record.layers])
            for chain in reversed(chains):
                if chain not in kept:
                    self.layers.remove(chain)

    def _catalogue(self) -> Any:
        return locked(self._config.locks / "images", timeout=120.0)

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        directory = self._config.tmp / f"import-{secrets.token_hex(8)}"
        directory.mkdir(parents=True)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


@functools.lru_cache(maxsize=256)
def _load(path: str, _changed: int) -> ImageRecord:
    """A record; parsed again only when its file has changed."""
    return from_json(ImageRecord, read_json(path))
