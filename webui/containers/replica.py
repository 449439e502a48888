"""The replica of what hosts observe, written by their workers and watchers; and the rows of what has gone."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.db.models import F, QuerySet

from runtime.model.codec import to_json
from runtime.model.spec import ContainerSpec
from runtime.model.state import Observed, RunState, Status
from webui.containers.models import Container
from webui.containers.recording import container_event
from webui.containers.selectors import containers
from webui.containers.showing import container_publish, show_used, used_by
from webui.core.prepared import prepared_update
from webui.core.publish import publish_gone
from webui.volumes.services import volumes_unmade


def container_changed(*, container_id: str, spec: ContainerSpec) -> None:
    """The host has changed the container to `spec`: the desired spec follows."""
    Container.objects.filter(pk=container_id).update(
        spec=to_json(spec), name=spec.name, revision=F("revision") + 1
    )
    container_publish(container_id=container_id)


def container_usage(*, container_id: str, usage: dict[str, Any]) -> None:
    """Facts for the advisor: merged into what is known, and published."""
    container = Container.objects.filter(pk=container_id).first()
    if container is None:
        return
    Container.objects.filter(pk=container_id).update(
        usage={**container.usage, **usage}, revision=F("revision") + 1
    )
    container_publish(container_id=container_id)


def container_apply_observed(*, container_id: str, observed: Observed) -> Container:
    """Write what a host saw; only a difference costs a write, a revision, an event and a publication.

    Raises Container.DoesNotExist.
    """
    container = containers().get(pk=container_id)
    write = container_take_observed(container=container, observed=observed)
    if write is not None:
        write()
        container_publish(container_id=container_id)
    return container


def container_take_observed(
    *, container: Container, observed: Observed
) -> Callable[[], None] | None:
    """Have the object be as a host saw it; what writes the difference, and its event, or None for no difference.

    For a task: the end of its operation is written together with it, and publishes the row.
    """
    values = observed_values(observed)
    changed = {name: v for name, v in values.items() if getattr(container, name) != v}
    if not changed:
        return None
    known = container.revision
    before = {n: getattr(container, n) for n in ("status", "started_at", "finished_at")}
    for name, value in changed.items():
        setattr(container, name, value)
    container.revision += 1

    def write() -> None:
        with transaction.atomic(savepoint=False):
            if _write(tuple(changed))(container.pk, known, *changed.values()):
                _record_transition(container, before, observed)
            elif Container.objects.filter(pk=container.pk).exists():
                # Somebody was quicker: most often the watcher, which has seen the same and recorded it.
                container.refresh_from_db()
                rest = container_take_observed(container=container, observed=observed)
                if rest is not None:
                    rest()

    return write


@functools.cache
def _write(names: tuple[str, ...]) -> Callable[..., int]:
    """What sets these fields of a container to values, unless it has another revision by now."""

    @prepared_update
    def write(
        container_id: str, revision: int, *values: Any
    ) -> tuple[QuerySet[Container], dict[str, Any]]:
        found = Container.objects.filter(pk=container_id, revision=revision)
        return found, dict(zip(names, values, strict=True)) | {"revision": F("revision") + 1}

    return write


def observed_values(observed: Observed) -> dict[str, Any]:
    """The replica's fields, by name, as `observed` says they are."""
    values: dict[str, Any] = {
        "status": str(observed.status),
        "status_error": observed.error,
        "managed": observed.managed,
        "present": True,
    }
    run = observed.run
    if run is None:
        return values
    values |= {
        "pid": run.pid,
        "started_at": _time(run.started_at),
        "finished_at": _time(run.finished_at),
        "restart_count": run.restart_count,
        "next_restart_at": _time(run.next_restart_at),
        "health": to_json(run.health),
    }
    if run.exit is not None and observed.status != Status.RUNNING:
        values |= {
            "exit_code": run.exit.code,
            "exit_reason": run.exit.reason,
            "exit_error": run.exit.error,
            "oom_killed": run.exit.oom_killed,
        }
    elif observed.status == Status.RUNNING and run.exit is None:
        values |= {"exit_code": None, "exit_reason": "", "exit_error": "", "oom_killed": False}
    return values


def _time(seconds: float) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


_EVENTS = {
    Status.PAUSED: "container.paused",
    Status.DEAD: "container.dead",
    Status.UNKNOWN: "container.lost_sight_of",
}


def _record_transition(container: Container, before: dict[str, Any], observed: Observed) -> None:
    run, status = observed.run, observed.status
    was_running = before["status"] in (Status.RUNNING, Status.PAUSED, Status.RESTARTING)
    if run is not None and run.exit is not None and container.finished_at != before["finished_at"]:
        _record_exit(container, run)
    if status == Status.RUNNING:
        if container.started_at != before["started_at"] or not was_running:
            container_event(container, "container.started", {})
        elif before["status"] == Status.PAUSED:
            container_event(container, "container.unpaused", {})
    elif status in _EVENTS and status != before["status"]:
        container_event(
            container, _EVENTS[status], {"error": observed.error} if observed.error else {}
        )


def _record_exit(container: Container, run: RunState) -> None:
    if run.exit is None:
        return
    kind = "container.oom_killed" if run.exit.oom_killed else "container.exited"
    container_event(
        container,
        kind,
        {
            "exit_code": run.exit.code,
            "reason": run.exit.reason,
            "ran_for": round(max(0.0, run.exit.finished_at - run.exit.started_at), 3),
            **({"error": run.exit.error} if run.exit.error else {}),
        },
    )


def container_missing(*, container_id: str) -> None:
    """Its bundle is not on the host although no operation explains that: shown, and removable."""
    changed = (
        Container.objects.filter(pk=container_id)
        .exclude(status=Status.UNKNOWN)
        .update(
            status=Status.UNKNOWN,
            present=False,
            status_error="Its files are not on the host any more.",
            revision=F("revision") + 1,
        )
    )
    if changed:
        container_publish(container_id=container_id)


def container_delete_row(*, container_id: str) -> None:
    """Remove the row and everything it claims; volumes that nobody else named or mounts go with it."""
    container = Container.objects.filter(pk=container_id).select_related("host").first()
    if container is None:
        return
    with transaction.atomic():
        used = used_by(container)
        if container.present:
            container_event(container, "container.removed", {})
        container.delete()
        if not container.present:
            # One that never came to be leaves no rows of volumes that never came to be either.
            volumes_unmade(host=container.host, names=used.volumes)
        show_used(used)
    publish_gone("containers", container_id)
