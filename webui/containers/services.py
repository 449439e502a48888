"""Writes to containers: what people ask for, and the replica of what a host observed."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import F
from pydantic import ValidationError

from runtime.errors import BadState, SpecInvalid
from runtime.model.codec import from_json, to_json
from runtime.model.parse import parse_signal
from runtime.model.spec import ContainerSpec, Limits
from runtime.model.state import Action, Observed, RunState, Status
from runtime.model.validate import validate_spec
from runtime.model.validate_limits import validate_limits
from runtime.model.validate_names import validate_name
from webui.accounts.models import User
from webui.containers.building import build_spec, shm_size_of, ulimits_of
from webui.containers.joining import attach, inherited_mounts
from webui.containers.models import Container
from webui.containers.naming import random_name
from webui.containers.requests import ContainerRequest, LimitsRequest, UpdateRequest
from webui.containers.reserving import EVERYWHERE, check_name, check_staying, choose_ports, claim
from webui.containers.selectors import containers
from webui.containers.showing import show, show_used, used_by, used_in
from webui.containers.wording import request_words
from webui.core.errors import from_validation
from webui.core.fields import new_id
from webui.core.payloads import container_row
from webui.core.publish import publish_gone, publish_row
from webui.hosts.models import Host
from webui.hosts.services import host_lock
from webui.images.selectors import image_to_run
from webui.operations.models import Operation
from webui.operations.services import event_record, operation_create
from webui.volumes.services import volumes_unmade


def container_create(
    *,
    host: Host,
    request: ContainerRequest,
    user: User | None,
    via: str,
    publish_address: str,
) -> tuple[Container, Operation]:
    """Validate, claim name, address, ports and volumes, and ask the host to make (and start) it.

    All of it or nothing, in one transaction. Raises SpecInvalid, NotFound, AlreadyExists, PortInUse,
    AddressInUse, each naming its field.
    """
    image = image_to_run(host, request.image)
    with request_words(request), transaction.atomic():
        spec = build_spec(
            request,
            container_id=new_id(),
            image=image.digest,
            config=image.config,
            host_ip=EVERYWHERE if publish_address == "0.0.0.0" else publish_address,
            inherited=inherited_mounts(host, request.volumes_from),
        )
        host_lock(host=host)
        spec = _name(host, spec, given=bool(request.name))
        spec = choose_ports(host, attach(host, spec, request))
        validate_spec(spec)
        check_staying(host, image, spec)
        container = Container.objects.create(
            id=spec.id,
            host=host,
            name=spec.name,
            image=image,
            image_reference=request.image,
            spec=to_json(spec),
            created_by=user,
        )
        claim(container, spec)
        operation = operation_create(
            host=host,
            kind="container.create",
            target_type="container",
            target_id=container.pk,
            target_name=container.name,
            user=user,
            via=via,
            params={"start": request.start},
        )
        show(container, operation)
        show_used(used_in(spec, host, image.digest))
    return container, operation


def _name(host: Host, spec: ContainerSpec, *, given: bool) -> ContainerSpec:
    """The spec with a name nobody has; one that was given is not changed but refused."""
    if given:
        validate_name(spec.name)
        check_name(host, spec.name)
        return spec
    while Container.objects.filter(host=host, name=spec.name).exists():
        # With a number there are always more.
        spec = replace(spec, name=f"{random_name()}-{secrets.randbelow(100_000)}")
    return spec


def container_act(
    *,
    container: Container,
    action: Action,
    user: User | None,
    via: str,
    params: dict[str, Any] | None = None,
) -> Operation:
    """Ask for start, stop, restart, kill, pause, unpause or remove.

    Raises BadState when that is not possible now, SpecInvalid for a signal that there is not.
    """
    if signal := (params or {}).get("signal"):
        parse_signal(signal, "signal")
    status = Status(container.status)
    forced = action == "remove" and bool((params or {}).get("force"))
    if not forced and not status.allows(action):
        hint = "Stop it first, or remove it by force." if action == "remove" else ""
        raise BadState(action, status, status.actions, hint=hint, container=container.name)
    return _ask(container, f"container.{action}", params or {}, user, via)


def _ask(
    container: Container, kind: str, params: dict[str, Any], user: User | None, via: str
) -> Operation:
    operation = operation_create(
        host=container.host,
        kind=kind,
        target_type="container",
        target_id=container.pk,
        target_name=container.name,
        user=user,
        via=via,
        params=params,
    )
    show(container, operation)
    return operation


def container_rename(*, container: Container, name: str, user: User | None, via: str) -> Operation:
    """The new name is taken at once; the host learns it by an operation."""
    validate_name(name)
    with transaction.atomic():
        host_lock(host=container.host)
        check_name(container.host, name, other_than=container.pk)
        container.name = name
        container.spec = {**container.spec, "name": name}
        container.revision += 1
        container.save(update_fields=["name", "spec", "revision"])
        show_used(used_by(container))
        return _ask(container, "container.rename", {}, user, via)


def container_update(
    *, container: Container, request: UpdateRequest, user: User | None, via: str
) -> Operation:
    """Change limits and restart policy without a restart; the replica follows when the host has done it."""
    params: dict[str, Any] = {}
    if request.limits is not None:
        params["limits"] = to_json(_merged_limits(container, request.limits))
    if request.restart is not None:
        whole = ContainerRequest(image="x", restart=request.restart)
        params["restart"] = to_json(whole.to_restart())
    # Null takes them away, too: what is left is as if it had never been given.
    if "ulimits" in request.model_fields_set:
        params["ulimits"] = [to_json(limit) for limit in ulimits_of(request.ulimits or ())]
    if "shm_size" in request.model_fields_set:
        params["shm_size"] = shm_size_of(request.shm_size or "")
    if "ulimits" in params or "shm_size" in params:
        _check_together(container, params)
    if not params:
        hint = "Give limits, ulimits, shm_size or restart."
        raise SpecInvalid("limits", "Nothing to change.", hint=hint)
    with transaction.atomic():
        return _ask(container, "container.update", params, user, via)


def _check_together(container: Container, params: dict[str, Any]) -> None:
    """Raise SpecInvalid where the whole would not be a container any more."""
    spec = {**container.spec, "shm_size": params.get("shm_size", container.spec.get("shm_size"))}
    if "ulimits" in params:
        spec["process"] = {**spec["process"], "ulimits": params["ulimits"]}
    with request_words(ContainerRequest(image="x")):
        validate_spec(from_json(ContainerSpec, spec))


def _merged_limits(container: Container, changes: dict[str, Any]) -> Limits:
    """What the container has, with the named limits replaced; null takes one away."""
    try:
        asked = LimitsRequest.model_validate(changes).to_limits()
    except ValidationError as error:
        complaint = from_validation(error)
        raise SpecInvalid(f"limits.{complaint.field}", complaint.message) from error
    current = from_json(Limits, container.spec.get("limits", {}), "limits")
    limits = replace(current, **{name: getattr(asked, name) for name in changes})
    if "memory" in changes and "memory_swap" not in changes:
        # As `docker update --memory` on a container whose swap was Docker's default.
        limits = replace(limits, memory_swap=None)
    # The newest word of those that say the same holds.
    if changes.get("cpus") is not None:
        limits = replace(limits, cpu_quota=asked.cpu_quota, cpu_period=asked.cpu_period)
    elif asked.cpu_quota is not None:
        limits = replace(limits, cpus=None)
    validate_limits(limits)
    return limits


# -- the replica, written by workers -----------------------------------------------------------


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


def container_apply_observed(
    *,
    container_id: str,
    observed: Observed,
    publish: bool = True,
    container: Container | None = None,
) -> Container:
    """Write what a host saw; only a difference costs a write, a revision, an event and a publication.

    `publish` False is for a task: the end of its operation publishes the row anyway. `container` is for who
    has read it a moment ago. Raises Container.DoesNotExist.
    """
    container = container or containers().get(pk=container_id)
    values = observed_values(observed)
    changed = {name: v for name, v in values.items() if getattr(container, name) != v}
    if not changed:
        return container
    before = {n: getattr(container, n) for n in ("status", "started_at", "finished_at")}
    with transaction.atomic():
        Container.objects.filter(pk=container_id).update(**changed, revision=F("revision") + 1)
        for name, value in changed.items():
            setattr(container, name, value)
        container.revision += 1
        _record_transition(container, before, observed)
    if publish:
        container_publish(container_id=container_id)
    return container


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
            _event(container, "container.started", {})
        elif before["status"] == Status.PAUSED:
            _event(container, "container.unpaused", {})
    elif status in _EVENTS and status != before["status"]:
        _event(container, _EVENTS[status], {"error": observed.error} if observed.error else {})


def _record_exit(container: Container, run: RunState) -> None:
    if run.exit is None:
        return
    kind = "container.oom_killed" if run.exit.oom_killed else "container.exited"
    _event(
        container,
        kind,
        {
            "exit_code": run.exit.code,
            "reason": run.exit.reason,
            "ran_for": round(max(0.0, run.exit.finished_at - run.exit.started_at), 3),
            **({"error": run.exit.error} if run.exit.error else {}),
        },
    )


def _event(container: Container, kind: str, data: dict[str, Any]) -> None:
    event_record(
        host=container.host,
        type=kind,
        target_type="container",
        target_id=container.pk,
        target_name=container.name,
        data=data,
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
            _event(container, "container.removed", {})
        container.delete()
        if not container.present:
            # One that never came to be leaves no rows of volumes that never came to be either.
            volumes_unmade(host=container.host, names=used.volumes)
        show_used(used)
    publish_gone("containers", container_id)


def container_publish(*, container_id: str) -> None:
    """The complete row to everybody who watches."""
    publish, _ = container_news(container_id=container_id)
    publish()


def container_news(
    *, container_id: str, container: Container | None = None
) -> tuple[Callable[[], None], dict[str, Any] | None]:
    """What publishes the complete row to everybody who watches, and the row; None when it is gone.

    `container` is for who has just read or written it.
    """
    container = container or containers().filter(pk=container_id).first()
    if container is None:
        return lambda: None, None
    row = container_row(container)
    return partial(publish_row, "containers", row, container.revision), row
