"""From what the engine tells to the rows that people see; the rows' own services do the writing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from runtime.errors import EngineError, NotFound
from runtime.model.spec import ContainerSpec
from runtime.model.state import Observed
from webui.containers.replica import container_delete_row, container_take_observed
from webui.containers.selectors import container_whole
from webui.hosts.models import Host
from webui.volumes.services import volume_delete_row

if TYPE_CHECKING:
    from runtime.engine import Engine
    from workers.base import Job

_LOOK_WAITS = (0.05, 0.5)  # seconds


def container_expected(job: Job) -> None:
    """Read what `container_seen` is going to compare with, while there is time for that."""
    job.operation.seen = container_whole(job.target)


def container_seen(job: Job) -> dict[str, Any]:
    """Look at the job's container; {"id", "name", "status", "exit_code"} as a result.

    The end of the operation writes down what is seen, and publishes the row. Raises NotFound when the container
    is not on this host, or not in the database.
    """
    observed = _observed(job)
    # What has been seen before and not been written yet is not what the database says.
    known = job.operation.seen if job.operation.write_seen is None else None
    container = known or container_whole(job.target)
    if container is None:
        raise NotFound("The container does not exist any more.")
    job.operation.seen = container
    job.operation.write_seen = container_take_observed(container=container, observed=observed)
    return {
        "id": container.pk,
        "name": container.name,
        "status": container.status,
        "exit_code": container.exit_code,
    }


def _observed(job: Job) -> Observed:
    """What there is now: what has been done is not to fail because one look at it did."""
    for wait in _LOOK_WAITS:
        try:
            return job.engine.observe(job.target)
        except NotFound:
            raise
        except EngineError:
            time.sleep(wait)
    return job.engine.observe(job.target)


def container_gone(
    engine: Engine, host: Host, container_id: str, spec: ContainerSpec | None
) -> None:
    """Remove the row of a container that is not on the host any more, and what it reserved.

    Rows of volumes that the host does not have go with it: anonymous ones that were removed, and those
    of a container that never came to be.
    """
    container_delete_row(container_id=container_id)
    if spec is None:
        return
    for mount in spec.mounts:
        if mount.type == "volume" and not engine.volumes.exists(mount.source):
            volume_delete_row(host=host, name=mount.source)
