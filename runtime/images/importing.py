"""Import an archive from disk: one with a root file system, or an image as `docker save` or an OCI tool packs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from runtime.errors import ArchiveInvalid, SpecInvalid
from runtime.images import archives
from runtime.images.config import diff_ids, parse_config
from runtime.images.layers import LayerStore
from runtime.images.manifest import architecture
from runtime.model.image import Progress
from runtime.model.reference import Reference

_ROOTFS_CONFIG: dict[str, Any] = {"os": "linux", "config": {"Cmd": ["/bin/sh"]}}


class Imported(NamedTuple):
    config: bytes
    manifest_digest: str = ""
    references: tuple[str, ...] = ()


class Import:
    """One import, in the caller's thread. When a method returns, every layer of the image is unpacked.

    They raise ArchiveInvalid, DigestMismatch, StorageFull, Cancelled; layers that were complete by then stay,
    to be collected when no image needs them.
    """

    def __init__(
        self,
        layers: LayerStore,
        *,
        progress: Callable[[Progress], None],
        cancelled: Callable[[], bool],
    ) -> None:
        self._layers, self._progress, self._cancelled = layers, progress, cancelled

    def root_file_system(self, path: Path, reference: str) -> Imported:
        """A tar of it becomes an image with one layer, and a shell as its command."""
        document = {
            **_ROOTFS_CONFIG,
            "architecture": architecture(),
            "history": [{"created_by": f"slipway: import of {reference or 'a root file system'}"}],
        }
        return self.single_layer(path, document)

    def single_layer(self, tar: Path, document: dict[str, Any]) -> Imported:
        """An image of this layer alone; the rest of its config is `document`."""
        size = tar.stat().st_size

        def report(done: int) -> None:
            self._progress(Progress("", "unpacking", done, size))

        diff_id, _ = self._layers.add(
            lambda: tar.open("rb"), cancelled=self._cancelled, progress=report
        )
        self._progress(Progress("", "done", size, size))
        document["rootfs"] = {"type": "layers", "diff_ids": [diff_id]}
        return Imported(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())

    def image(self, path: Path, directory: Path) -> Imported:
        """The image in an archive, which is extracted to `directory`, an empty one."""
        self._progress(Progress("", "verifying"))
        archives.extract(path, directory, self._cancelled)
        image = archives.open_image(directory)
        ids = diff_ids(parse_config(image.config))
        if len(ids) != len(image.layers):
            raise ArchiveInvalid(
                f"The image has {len(image.layers)} layers, its config names {len(ids)}."
            )
        parent = ""
        for diff_id, layer in zip(ids, image.layers, strict=True):
            parent = self._layer(layer, diff_id, parent)
        return Imported(image.config, image.manifest_digest, _full_names(image.references))

    def _layer(self, layer: Path, diff_id: str, parent: str) -> str:
        """Unpack it above the chain `parent`; returns its own chain."""
        part, size = diff_id[7:19], layer.stat().st_size

        def report(done: int) -> None:
            self._progress(Progress(part, "unpacking", done, size))

        _, chain = self._layers.add(
            lambda: layer.open("rb"),
            diff_id=diff_id,
            parent=parent,
            cancelled=self._cancelled,
            progress=report,
        )
        self._progress(Progress(part, "done", size, size))
        return chain


def _full_names(references: tuple[str, ...]) -> tuple[str, ...]:
    """Those of an archive's names that are names."""
    found = []
    for text in references:
        with suppress(SpecInvalid):
            found.append(Reference.parse(text).full)
    return tuple(found)
