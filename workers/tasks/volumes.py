"""Volumes: made, removed, measured."""

from __future__ import annotations

from typing import Any

from runtime.errors import NotFound
from webui.volumes.services import volume_delete_row, volumes_made
from workers.base import Job, operation_task


def _take_back(job: Job) -> None:
    """After a create that failed: the row goes, so that the name is free again."""
    volume_delete_row(host=job.operation.host, name=job.operation.target_name)


@operation_task("volume.create", on_failure=_take_back)
def create(job: Job) -> dict[str, Any]:
    """Make the volume's directory; one that exists already stays as it is."""
    job.engine.volumes.create(job.operation.target_name)
    volumes_made(host=job.operation.host, names=[job.operation.target_name])
    return {"name": job.operation.target_name}


@operation_task("volume.remove")
def remove(job: Job) -> dict[str, Any]:
    """Remove it with everything in it. Raises VolumeInUse while a container mounts it."""
    name = job.operation.target_name
    try:
        job.engine.volumes.remove(name)
    except NotFound:
        pass  # done already
    volume_delete_row(host=job.operation.host, name=name)
    return {"name": name}
