"""A new image of what a container has made of its own."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import IO

from runtime.engine.lifecycle import require
from runtime.engine.observe import Observer
from runtime.errors import BadState, EngineError, NotFound, ShimLost, error_context
from runtime.images import ImageStore
from runtime.images.unpack import DEVICES
from runtime.model.image import ImageChanges, ImageRecord, Progress
from runtime.model.spec import ContainerSpec
from runtime.model.state import Observed, Status
from runtime.shim.client import ShimClient
from runtime.snapshots import prepare, usage
from runtime.snapshots.layer_tar import LayerTar
from runtime.store.bundles import BundleStore
from runtime.store.paths import Config

logger = logging.getLogger(__name__)

_BLOCK = 1 << 18  # bytes


@dataclass(frozen=True, slots=True)
class Committed:
    image: ImageRecord
    left_out: tuple[str, ...]  # paths of device nodes, which no image may hold


class Commits:
    def __init__(
        self, config: Config, *, bundles: BundleStore, images: ImageStore, observer: Observer
    ) -> None:
        self._config = config
        self._bundles = bundles
        self._images = images
        self._observer = observer

    def commit(
        self,
        container_id: str,
        changes: ImageChanges,
        *,
        pause: bool = True,
        progress: Callable[[Progress], None] = lambda _: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Committed:
        """A new image: the layers of the container's, and what the container has changed outside its volumes.

        A running container is frozen meanwhile, unless `pause` is False. Nobody starts, stops or removes it
        meanwhile. Raises NotFound, BadState, Unsupported, ArchiveInvalid, StorageFull, Cancelled; nothing is
        left then, and what was frozen runs on.
        """
        with (
            error_context("commit", id=container_id),
            self._observer.locked(container_id),
        ):
            observed = self._observer.settled(container_id)
            require(observed, "commit")
            spec = self._bundles.spec(container_id)
            with ExitStack() as undo:
                with self._still(observed, pause=pause):
                    made = self._derive(spec, changes, progress, cancelled)
                    undo.callback(self._forget, made.image)
                undo.pop_all()
            return made

    def _derive(
        self,
        spec: ContainerSpec,
        changes: ImageChanges,
        progress: Callable[[Progress], None],
        cancelled: Callable[[], bool],
    ) -> Committed:
        upper, _, _ = prepare(self._config, spec.id)
        total = usage(self._config, spec.id).total
        layers: list[LayerTar] = []

        def opened() -> IO[bytes]:
            layers.append(LayerTar(upper, DEVICES))
            return io.BufferedReader(layers[-1], _BLOCK)

        def report(done: int) -> None:
            progress(Progress("", "unpacking", min(done, total), total))

        record = self._images.derive(
            spec.image,
            opened,
            changes,
            created_by=" ".join(spec.process.args),
            progress=report,
            cancelled=cancelled,
        )
        return Committed(record, tuple(layers[-1].left_out) if layers else ())

    def _forget(self, image: ImageRecord) -> None:
        try:
            self._images.remove(image.id)
        except (EngineError, OSError) as error:
            logger.warning("Image %s of a failed commit stays: %s", image.id[7:19], error)

    def thaw(self, container_id: str) -> None:
        """Have it run on when somebody who died committing it has frozen it. Raises NotFound."""
        with error_context("commit", id=container_id), self._observer.locked(container_id):
            observed = self._observer.settled(container_id)
            if self._observer.is_marked_frozen(container_id):
                self._run_on(observed)

    @contextmanager
    def _still(self, observed: Observed, *, pause: bool) -> Iterator[None]:
        """Around what reads the writable layer: nothing in it moves."""
        marked = self._observer.is_marked_frozen(observed.id)
        ours = observed.status == Status.PAUSED and marked
        try:
            if observed.status == Status.RUNNING and pause:
                ours = True
                self._observer.mark_frozen(observed.id)
                with suppress(ShimLost, NotFound):  # it has just ended: that is as still
                    ShimClient(self._config, observed.id).pause()
            yield
        finally:
            if ours:
                self._run_on(observed)

    def _run_on(self, observed: Observed) -> None:
        try:
            ShimClient(self._config, observed.id).unpause()
        except (ShimLost, NotFound, BadState) as error:
            logger.info("Container %s has ended meanwhile: %s", observed.id[:12], error)
        self._observer.unmark_frozen(observed.id)
