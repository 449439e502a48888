"""Images on their way out: archives that Docker loads and this store imports."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from runtime.errors import error_context
from runtime.images import ImageStore
from runtime.images.saving import archive
from runtime.images.unpack import DEVICES
from runtime.snapshots.layer_tar import LayerTar

_BLOCK = 1 << 18  # bytes


class Saving:
    def __init__(self, images: ImageStore) -> None:
        self._images = images

    def save(self, image_id: str, names: Sequence[str]) -> Iterator[bytes]:
        """The image under these names as the blocks of a tar; see runtime.images.saving.

        Close what is not read to its end. The first block comes when all of the image is known to be there. Raises
        NotFound, KernelFailure.
        """
        with error_context("save", id=image_id), self._images.kept():
            layers = self._images.layer_dirs(image_id)
            config = self._images.config_of(image_id)
            yield from archive(config, layers, names, _opened)


def _opened(layer: Path) -> IO[bytes]:
    return io.BufferedReader(LayerTar(layer, DEVICES), _BLOCK)
