"""A container's own process, from outside: what it writes, what it reads, how large its terminal is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from runtime.engine.observe import Observer
from runtime.errors import BadState, NotFound, error_context
from runtime.model.state import Status
from runtime.shim.attach_session import AttachSession
from runtime.shim.client import ShimClient
from runtime.store.paths import Config


class Attaching:
    def __init__(self, config: Config, observer: Observer) -> None:
        self._config = config
        self._observer = observer

    def attach(self, container_id: str, *, stdin: bool = False) -> AttachSession:
        """All that its process writes from now on; `stdin`: what the session writes is for it, if it has
        standard input or a terminal at all.

        Raises NotFound, BadState unless the container runs, Conflict when too many are attached.
        """
        with error_context("attach", id=container_id):
            status = self._observer.observe(container_id).status
            if not status.allows("attach"):
                raise BadState("attach to", status, status.actions)
            with _running("attach to"):
                return ShimClient(self._config, container_id).attach(stdin=stdin)

    def resize(self, container_id: str, rows: int, columns: int) -> None:
        """Give its terminal a size. Raises NotFound, BadState, SpecInvalid, Conflict when it has none."""
        with error_context("resize", id=container_id):
            status = self._observer.observe(container_id).status
            if not status.is_active:
                raise BadState("resize", status, status.actions)
            with _running("resize"):
                ShimClient(self._config, container_id).resize(rows, columns)


@contextmanager
def _running(action: str) -> Iterator[None]:
    """That it has no monitor says that it has ended between the two looks."""
    try:
        yield
    except NotFound:
        raise BadState(action, Status.EXITED, Status.EXITED.actions) from None
