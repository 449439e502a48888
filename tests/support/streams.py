"""What a stream server is given in tests in which nothing runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from runtime.engine.diff import Change
from runtime.engine.execs import ExecRequest
from runtime.engine.files import Listing, PathStat, Transfer
from runtime.errors import NotFound
from runtime.shim.attach_session import AttachSession
from runtime.shim.client import ExecSession


def no_exec(container_id: str, request: ExecRequest) -> ExecSession:
    raise NotFound("not asked for")


class Nobody:
    """An engine in which nothing can be attached to."""

    def attach(self, container_id: str, *, stdin: bool = False) -> AttachSession:
        raise NotFound("not asked for")

    def resize(self, container_id: str, rows: int, columns: int) -> None:
        raise NotFound("not asked for")


class NoFiles:
    """Containers without any file."""

    @property
    def files(self) -> NoFiles:
        return self

    def changes(self, container_id: str) -> Iterator[Change]:
        raise NotFound("not asked for")

    def stat(self, container_id: str, path: str) -> PathStat:
        raise NotFound("not asked for")

    def read(
        self, container_id: str, path: str, *, export: bool = False
    ) -> tuple[PathStat, Transfer]:
        raise NotFound("not asked for")

    def content(
        self, container_id: str, path: str, *, limit: int | None = None
    ) -> tuple[PathStat, Transfer]:
        raise NotFound("not asked for")

    def listing(
        self, container_id: str, path: str, *, after: str = "", limit: int = 1000
    ) -> Listing:
        raise NotFound("not asked for")

    def write(
        self, container_id: str, path: str, *, no_overwrite: bool = False, keep_ids: bool = False
    ) -> Transfer:
        raise NotFound("not asked for")


class NoImages:
    """A host without any image."""

    def save(self, image_id: str, names: Sequence[str]) -> Iterator[bytes]:
        raise NotFound("not asked for")
