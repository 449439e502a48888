"""Writes to containers: what people ask for, and the replica of what a host observed."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

from django.db import transaction
from pydantic import ValidationError

from runtime.errors import BadState, SpecInvalid
from runtime.model.codec import from_json, to_json
from runtime.model.parse import parse_signal
from runtime.model.spec import ContainerSpec, Limits
from runtime.model.state import Action, Status
from runtime.model.validate import validate_spec
from runtime.model.validate_limits import validate_limits
from runtime.model.validate_names import validate_name
from webui.accounts.models import User
from webui.containers import holding
from webui.containers.aliases import check_not_alias
from webui.containers.building import build_spec, shm_size_of, ulimits_of
from webui.containers.joining import attach, inherited_mounts
from webui.containers.models import Container
from webui.containers.naming import random_name
from webui.containers.recording import container_ask
from webui.containers.requests import ContainerRequest, LimitsRequest, UpdateRequest
from webui.containers.reserving import EVERYWHERE, check_name, check_staying, choose_ports, claim
from webui.containers.showing import show, show_used, used_by, used_in
from webui.containers.wording import request_words
from webui.core.errors import from_validation
from webui.core.fields import new_id
from webui.core.prepared import insert
from webui.hosts.models import Host
from webui.hosts.services import host_lock
from webui.images.selectors import image_to_run
from webui.operations.models import Operation
from webui.operations.services import operation_create


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
        container = Container(
            id=spec.id,
            host=host,
            name=spec.name,
            image=image,
            image_reference=request.image,
            spec=to_json(spec),
            created_by=user,
        )
        insert(container)
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
    while holding.named(host.pk, spec.name):
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
    return container_ask(container, f"container.{action}", params or {}, user=user, via=via)


def container_rename(*, container: Container, name: str, user: User | None, via: str) -> Operation:
    """The new name is taken at once; the host learns it by an operation."""
    validate_name(name)
    with transaction.atomic():
        host_lock(host=container.host)
        check_name(container.host, name, other_than=container.pk)
        joined = container.endpoints.values_list("network_id", flat=True)
        check_not_alias(name, joined, "name", container_id=container.pk)
        container.name = name
        container.spec = {**container.spec, "name": name}
        container.revision += 1
        container.save(update_fields=["name", "spec", "revision"])
        show_used(used_by(container))
        return container_ask(container, "container.rename", {}, user=user, via=via)


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
        return container_ask(container, "container.update", params, user=user, via=via)


def _check_together(container: Container, params: dict[str, Any]) -> None:
    """Raise SpecInvalid where the whole would not be a container any more."""
    spec = {**container.spec, "shm_size": params.get("shm_size", container.spec.get("shm_size"))}
    if "ulimits" in params:
        spec["process"] = {**spec["process"], "ulimits": params["ulimits"]}
    with request_words(ContainerRequest(image="x")):
        validate_spec(from_json(ContainerSpec, spec), made=True)


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
