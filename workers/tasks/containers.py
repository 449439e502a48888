"""What a user may ask of a container. Each task calls the engine once, then writes what it sees."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import Any

from django.db import IntegrityError
from django.db.models import QuerySet

from runtime.errors import BadState, EngineError, NotFound
from runtime.model.codec import from_json
from runtime.model.image import ImageChanges
from runtime.model.spec import ContainerSpec, Limits, Restart, Ulimit
from runtime.model.state import Status
from webui.containers.committing import container_committed
from webui.containers.models import Container
from webui.containers.replica import container_changed
from webui.core.prepared import first, prepared
from webui.images.selectors import image_built_at
from webui.images.services import image_apply
from webui.volumes.services import volumes_made
from workers.base import Job, operation_task
from workers.networks import networks_known
from workers.replica import container_expected, container_gone, container_seen
from workers.stages import Stages

logger = logging.getLogger(__name__)

Result = dict[str, Any]

_FRESH = 0.5  # seconds that a row read while a container stops is good for
_MOST_LEFT_OUT = 50  # paths of device nodes that a commit names


def _spec(job: Job) -> ContainerSpec:
    """The spec in the database: the one place a spec comes from. Raises NotFound, SpecInvalid."""
    row = first(_stored_spec(job.target))
    if row is None:
        raise NotFound("The container does not exist any more.")
    return from_json(ContainerSpec, row)


@prepared
def _stored_spec(container_id: str) -> QuerySet[Container, dict[str, Any]]:
    return Container.objects.filter(pk=container_id).order_by().values_list("spec", flat=True)


def _volume_names(spec: ContainerSpec) -> list[str]:
    return [mount.source for mount in spec.mounts if mount.type == "volume"]


def _take_back(job: Job) -> None:
    """After a create that failed: a container that was made stays, as with Docker; a half-made one goes."""
    spec = _spec(job)
    if job.cancelled():
        with suppress(BadState):  # too late: it has run
            job.engine.take_back(spec)
    try:
        container_seen(job)
        return
    except NotFound:
        pass
    # Nothing of it is on the host; the row and what it reserves go, so that the name is free again.
    job.engine.take_back(spec)
    container_gone(job.engine, job.operation.host, job.target, spec)


@operation_task("container.create", on_failure=_take_back)
def create(job: Job) -> Result:
    """Make the container and, when asked, start it: one hop for both."""
    stages = Stages()
    spec = _spec(job)
    networks_known(job.engine, spec)
    stages.note("read")
    starts = bool(job.params.get("start"))
    if not (starts and _runs_already(job)):
        job.engine.create(spec, durable=not starts)
        stages.note("create")
        job.wait(0)
    volumes_made(host=job.operation.host, names=_volume_names(spec))
    if starts:
        return _started(job, stages)
    return _traced(job, stages)


def _started(job: Job, stages: Stages) -> Result:
    def note(stage: str) -> None:
        stages.note(stage)
        if stage == "wire":
            # The container's own processes have something to do now, and we have not.
            container_expected(job)
            stages.note("expect")

    if not _runs_already(job):
        job.engine.start(job.target, trace=note)
    return _traced(job, stages)


def _runs_already(job: Job) -> bool:
    """The worker that died on this had done it: to do it again could only fail."""
    if job.operation.attempts == 1:
        return False
    with suppress(EngineError):
        return job.engine.observe(job.target).status == Status.RUNNING
    return False


def _traced(job: Job, stages: Stages) -> Result:
    """What was seen, and where the time went: `slipway trace run` reads it."""
    result = container_seen(job)
    stages.note("look")
    return result | {"stages": stages.ended}


def _seen(job: Job) -> None:
    """After an action that failed: whatever it changed is shown."""
    container_seen(job)


@operation_task("container.start", on_failure=_seen)
def start(job: Job) -> Result:
    """Start it; nothing happens when it runs already."""
    return _started(job, Stages())


@operation_task("container.stop", on_failure=_seen)
def stop(job: Job) -> Result:
    """Ask its process to end, and end it when it does not."""
    begun = time.monotonic()
    job.engine.stop(
        job.target,
        signal=job.params.get("signal"),
        timeout=job.params.get("timeout"),
        meanwhile=lambda: container_expected(job),
    )
    if time.monotonic() - begun > _FRESH:
        job.operation.seen = None  # others may have written to the row since
    return container_seen(job)


@operation_task("container.kill", on_failure=_seen)
def kill(job: Job) -> Result:
    """Send it a signal."""
    try:
        job.engine.kill(job.target, job.params.get("signal") or "SIGKILL")
    except BadState:
        # The worker that died on it may have done it.
        if job.operation.attempts == 1 or job.engine.observe(job.target).status != Status.EXITED:
            raise
    return container_seen(job)


@operation_task("container.pause", on_failure=_seen)
def pause(job: Job) -> Result:
    """Freeze its processes."""
    job.engine.pause(job.target)
    return container_seen(job)


@operation_task("container.unpause", on_failure=_seen)
def unpause(job: Job) -> Result:
    """Let its processes go on."""
    job.engine.unpause(job.target)
    return container_seen(job)


@operation_task("container.restart", on_failure=_seen)
def restart(job: Job) -> Result:
    """Stop and start."""
    params = job.params
    job.engine.restart(job.target, params.get("timeout"), signal=params.get("signal"))
    return container_seen(job)


def _keep_name(job: Job) -> None:
    """After a rename that failed: the row has the name that the host knows, when nobody took it meanwhile."""
    spec = job.engine.inspect(job.target)
    try:
        container_changed(container_id=job.target, spec=spec)
    except IntegrityError:
        logger.warning("Container %s is %s on the host.", job.target[:12], spec.name)
    _seen(job)


@operation_task("container.rename", on_failure=_keep_name)
def rename(job: Job) -> Result:
    """Tell the host the name that the database has accepted."""
    job.engine.rename(job.target, _spec(job).name)
    return container_seen(job)


def _enforce(job: Job) -> None:
    """After an update that failed: a worker that died on it may have been half through. The disk says how far."""
    job.engine.enforce(job.target)
    container_changed(container_id=job.target, spec=job.engine.inspect(job.target))
    _seen(job)


@operation_task("container.update", on_failure=_enforce)
def update(job: Job) -> Result:
    """Change limits and restart policy, also of a running container: all that is asked, or nothing."""
    limits, policy = job.params.get("limits"), job.params.get("restart")
    spec = job.engine.update(
        job.target,
        limits=None if limits is None else from_json(Limits, limits, "limits"),
        restart=None if policy is None else from_json(Restart, policy, "restart"),
        ulimits=None
        if (ulimits := job.params.get("ulimits")) is None
        else [from_json(Ulimit, each, "ulimits") for each in ulimits],
        shm_size=job.params.get("shm_size"),
    )
    container_changed(container_id=job.target, spec=spec)
    return container_seen(job)


def _run_on(job: Job) -> None:
    """After a commit that failed: a worker that died on it may have frozen the container, or made the image."""
    created = job.params["changes"]["created"]
    if job.operation.attempts > 1 and not image_built_at(host=job.operation.host, time=created):
        for record in job.engine.images.records():
            if record.created == created:
                job.engine.images.remove(record.id)
    job.engine.commits.thaw(job.target)
    _seen(job)


@operation_task("container.commit", on_failure=_run_on)
def commit(job: Job) -> Result:
    """Make an image of it, and give that its name."""
    host, changes = job.operation.host, from_json(ImageChanges, job.params["changes"], "changes")
    reference = str(job.params.get("reference") or "")
    references = [reference] if reference else []
    if job.operation.attempts > 1 and (digest := image_built_at(host=host, time=changes.created)):
        # The worker that died on it had done it.
        job.engine.commits.thaw(job.target)
        container_seen(job)
        return {"id": digest, "references": references}
    made = job.engine.commits.commit(
        job.target,
        changes,
        pause=bool(job.params.get("pause", True)),
        progress=job.progress,
        cancelled=job.cancelled,
    )
    try:
        image_apply(
            host=host,
            record=made.image,
            references=references,
            move=bool(job.params.get("replace")),
        )
    except EngineError:
        job.engine.images.remove(made.image.id)
        raise
    container_committed(
        container_id=job.target, image=made.image.id, reference=reference, user=job.operation.user
    )
    container_seen(job)
    return {
        "id": made.image.id,
        "references": references,
        "left_out": list(made.left_out[:_MOST_LEFT_OUT]),
    }


def _seen_or_gone(job: Job) -> None:
    """After a removal that failed: what is left is shown; when only something beside it is left, it goes."""
    try:
        _seen(job)
    except NotFound:
        container_gone(job.engine, job.operation.host, job.target, _spec(job))


@operation_task("container.remove", on_failure=_seen_or_gone)
def remove(job: Job) -> Result:
    """Remove it with its writable layer; named volumes stay."""
    try:
        spec: ContainerSpec | None = _spec(job)
    except EngineError:
        # Unreadable, or gone already: what can be found by its id goes all the same.
        spec = None
    try:
        job.engine.remove(
            job.target,
            force=bool(job.params.get("force")),
            volumes=bool(job.params.get("volumes")),
        )
    except NotFound:
        logger.info("Container %s is gone already.", job.target[:12])
    container_gone(job.engine, job.operation.host, job.target, spec)
    return {"id": job.target}
