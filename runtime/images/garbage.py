"""What no image needs any more: layers, blobs, and what a process that died had half made.

Reference counting from the facts on disk: the records of all images are the references. The caller makes
sure that they are all there and that nothing comes in meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from runtime.images.layers import LayerStore, chains_of
from runtime.model.image import ImageRecord
from runtime.store.paths import Config

GRACE = 3600.0  # seconds that what a failed pull has left is kept for the next try
_HALF_MADE = ("layer-", "import-", "gone-")  # in Config.tmp, by this package


def set_aside(
    config: Config, layers: LayerStore, records: Iterable[ImageRecord], grace: float
) -> list[Path]:
    """Take garbage that is `grace` seconds old out of use; what is returned is to be deleted.

    Raises OSError.
    """
    now = time.time()
    needed: set[str] = set()
    configs: set[str] = set()
    for record in records:
        needed.update(layers.name(chain) for chain in chains_of(record))
        configs.add(record.id.removeprefix("sha256:"))
    doomed: list[Path] = []
    for path in _older(config.layers, now - grace):
        if path.name not in needed:
            aside = layers.set_aside(path.name)
            if aside is not None:
                doomed.append(aside)
    doomed += [path for path in _older(config.blobs, now - grace) if path.name not in configs]
    # Nothing comes in, so what lies there is of a process that died, or is being deleted already.
    doomed += [path for path in _older(config.tmp, now) if path.name.startswith(_HALF_MADE)]
    return doomed


def _older(directory: Path, than: float) -> list[Path]:
    """What in `directory` has not changed since the time `than`."""
    found = []
    try:
        for path in directory.iterdir():
            try:
                if path.lstat().st_mtime <= than:
                    found.append(path)
            except FileNotFoundError:
                continue
    except FileNotFoundError:
        pass
    return found
