"""Images: pulled, imported, made of the host's busybox, removed."""

from __future__ import annotations

from typing import Any

from runtime.errors import ArchiveInvalid, EngineError, NotFound
from runtime.model.image import ImageRecord
from runtime.model.reference import Reference
from webui.images.services import image_apply, image_delete_row, pull_access
from workers import instance
from workers.base import Job, operation_task


def _shown(job: Job, record: ImageRecord, references: list[str]) -> dict[str, Any]:
    """Write the image and its names; {"id", "references"} as a result."""
    image_apply(host=job.operation.host, record=record, references=references)
    return {"id": record.id, "references": references}


@operation_task("image.pull")
def pull(job: Job) -> dict[str, Any]:
    """Fetch it from its registry; what is here already is not fetched again."""
    reference = Reference.parse(job.params["reference"])
    credentials, plain_http = pull_access(job.operation)
    record = job.engine.images.pull(
        reference,
        credentials=credentials,
        plain_http=plain_http,
        progress=job.progress,
        cancelled=job.cancelled,
    )
    return _shown(job, record, [reference.full])


def _drop_upload(job: Job) -> None:
    """The upload is of no use any more, whatever became of it."""
    (instance.config().spool / str(job.operation.pk)).unlink(missing_ok=True)


@operation_task("image.import", on_failure=_drop_upload)
def import_archive(job: Job) -> dict[str, Any]:
    """Take in the archive that was uploaded for this operation."""
    path = instance.config().spool / str(job.operation.pk)
    if not path.is_file():
        raise ArchiveInvalid("The upload is gone.", hint="Upload the file again.")
    reference = str(job.params.get("reference") or "")
    record = job.engine.images.import_archive(
        path, reference=reference, progress=job.progress, cancelled=job.cancelled
    )
    result = _shown(job, record, [reference] if reference else _named(record))
    _drop_upload(job)
    return result


def _named(record: ImageRecord) -> list[str]:
    """The names that the archive gives the image, those of them that are names."""
    names = []
    for text in record.references:
        try:
            names.append(Reference.parse(text).full)
        except EngineError:
            continue
    return names


@operation_task("image.starter")
def starter(job: Job) -> dict[str, Any]:
    """Make the image that one can begin with, of this host's own busybox."""
    return _shown(job, job.engine.images.starter(), [job.params["reference"]])


@operation_task("image.remove")
def remove(job: Job) -> dict[str, Any]:
    """Remove it and the layers that no other image has."""
    try:
        job.engine.images.remove(job.target)
    except NotFound:
        pass  # done already
    image_delete_row(host=job.operation.host, digest=job.target)
    return {"id": job.target}
