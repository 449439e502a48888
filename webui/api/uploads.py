"""Uploaded archives: written once, straight to the spool, and gone unless somebody keeps them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.core.files.uploadhandler import FileUploadHandler, SkipFile
from django.http import HttpRequest
from django.http.multipartparser import MultiPartParser
from ninja import UploadedFile

from runtime.errors import StorageFull
from webui.api.auth import operator
from webui.core.errors import TooLarge

UNFINISHED = ".part"
_ABANDONED = 3600.0  # seconds without a byte


class SpooledUpload(UploadedFile):
    """A file in the spool. It is removed at the end of its request unless `keep` has been called."""

    def __init__(self, name: str, upload_id: UUID) -> None:
        self.upload_id = upload_id
        self._part: Path | None = settings.SLIPWAY.spool / f"{upload_id}{UNFINISHED}"
        self._received = 0  # bytes
        with _storage():
            # Unbuffered: chunks are large.
            self._out = self._part.open("xb", buffering=0)
        super().__init__(file=self._out, name=name, size=0)

    def add(self, chunk: bytes) -> None:
        """Raises TooLarge, and StorageFull when the disk is."""
        self._received += len(chunk)
        if self._received > settings.UPLOAD_LIMIT:
            raise too_large()
        view = memoryview(chunk)
        with _storage():
            while view:
                view = view[self._out.write(view) :]

    def complete(self) -> SpooledUpload:
        self.size = self._received
        return self

    def keep(self) -> Path:
        """Give it its name for the worker: that of the operation which imports it."""
        part = settings.SLIPWAY.spool / f"{self.upload_id}{UNFINISHED}"
        kept = part.with_suffix("")
        with _storage():
            part.rename(kept)
        self._part = None
        return kept

    def close(self) -> None:
        """Django calls this at the end of the request, whatever came of it."""
        self._out.close()
        if self._part is not None:
            self._part.unlink(missing_ok=True)


@contextmanager
def _storage() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFull(
            f"The upload could not be kept: {os.strerror(error.errno or 0)}.",
            hint="Free disk space on the host, or import a smaller archive.",
            field="archive",
        ) from error


def forget_uploads() -> None:
    """Remove what is left of uploads whose process was killed. One under way has been written to lately."""
    for part in settings.SLIPWAY.spool.glob(f"*{UNFINISHED}"):
        with suppress(FileNotFoundError):
            if time.time() - part.stat().st_mtime > _ABANDONED:
                part.unlink()


def too_large(
    otherwise: str = "pull the image from a registry", field: str = "archive"
) -> TooLarge:
    """`otherwise`: what to do in place of raising the limit."""
    limit = settings.UPLOAD_LIMIT
    shown = f"{limit / 1024**3:.0f} GiB" if limit >= 1024**3 else f"{limit} bytes"
    return TooLarge(
        f"The archive is larger than {shown}.",
        hint=f"Raise SLIPWAY_UPLOAD_LIMIT, or {otherwise}.",
        field=field,
        limit=limit,
    )


class SpoolHandler(FileUploadHandler):
    """Takes the whole form over: checks who sends it, and how much, before its first byte is read."""

    def handle_raw_input(
        self,
        input_data: Any,
        META: dict[str, Any],  # noqa: N803 - Django's name
        content_length: int,
        boundary: Any,
        encoding: str | None = None,
    ) -> Any:
        assert self.request is not None
        taken: list[SpooledUpload] = []
        inner = _Files(self.request, taken)
        if inner.welcome:
            operator(self.request)
            if content_length > settings.UPLOAD_LIMIT + settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
                raise too_large()
        try:
            return MultiPartParser(META, input_data, [inner], encoding).parse()
        except BaseException:
            for upload in taken:
                upload.close()
            raise


class _Files(FileUploadHandler):
    chunk_size = 1 << 20

    def __init__(self, request: HttpRequest, taken: list[SpooledUpload]) -> None:
        super().__init__(request)
        self.welcome = request.path in settings.UPLOAD_PATHS
        self._taken = taken

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        if not self.welcome:
            raise SkipFile
        self._taken.append(SpooledUpload(self.file_name or "archive", uuid4()))

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        self._taken[-1].add(raw_data)

    def file_complete(self, file_size: int) -> SpooledUpload | None:
        return self._taken[-1].complete() if self.welcome else None

    def upload_interrupted(self) -> None:
        for upload in self._taken:
            upload.close()
