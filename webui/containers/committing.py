"""Images of what containers have made: what people ask for, and what of it the host is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from django.db import transaction

from runtime.errors import BadState, SpecInvalid
from runtime.model.codec import from_json, to_json
from runtime.model.image import ImageChanges
from runtime.model.image_changes import parse_image_changes
from runtime.model.reference import Reference
from runtime.model.spec import ContainerSpec, Health
from runtime.model.state import Status
from webui.accounts.models import User
from webui.containers.asking import command_request
from webui.containers.health import health_request
from webui.containers.models import Container
from webui.containers.recording import container_ask, container_event
from webui.containers.requests import CommitRequest
from webui.images.services import check_unused, new_name
from webui.operations.models import Operation


def container_commit(
    *, container: Container, request: CommitRequest, user: User | None, via: str
) -> Operation:
    """Ask the host for an image of the container. Raises BadState, AlreadyExists, SpecInvalid, with the field."""
    status = Status(container.status)
    if not status.allows("commit"):
        raise BadState("commit", status, status.actions, container=container.name)
    for name in ("message", "author"):
        if "\0" in getattr(request, name):
            raise SpecInvalid(name, f"{name} holds a NUL character.", hint="Leave it out.")
    name = new_name(request.reference).full if request.reference.strip() else ""
    config = container.image.config if container.image else {}
    spec = from_json(ContainerSpec, container.spec)
    changes = parse_image_changes(request.changes, own_changes(spec, config), config)
    changes = replace(
        changes,
        author=request.author,
        comment=request.message,
        created=datetime.now(UTC).isoformat().replace("+00:00", "Z"),
    )
    with transaction.atomic():
        if name and not request.replace:
            check_unused(container.host, name)
        return container_ask(
            container,
            "container.commit",
            {
                "reference": name,
                "replace": request.replace,
                "pause": request.pause,
                "changes": to_json(changes),
            },
            user=user,
            via=via,
        )


def container_committed(
    *, container_id: str, image: str, reference: str, user: User | None
) -> None:
    """Record that an image was made of it: its digest, and its full name or ""."""
    container = Container.objects.filter(pk=container_id).select_related("host").first()
    if container is None:
        return
    shown = Reference.parse(reference).familiar if reference else image[7:19]
    data = {"image": image, "reference": reference, "message": f"The image is {shown}."}
    container_event(container, "container.committed", data, user=user)


def own_changes(spec: ContainerSpec, config: dict[str, Any]) -> ImageChanges:
    """What the container runs with otherwise than its image says: the new image has it, as Docker's would.

    `config` is the image's, an ImageConfig as JSON.
    """
    command = command_request(list(spec.process.args), config)
    entrypoint = command.get("entrypoint")
    inherited = {name: set(config.get(name) or ()) for name in ("env", "exposed_ports", "volumes")}
    labels = config.get("labels") or {}
    anonymous = (mount.target for mount in spec.mounts if mount.anonymous)
    signal = str(config.get("stop_signal") or "SIGTERM")
    return ImageChanges(
        entrypoint=None if entrypoint is None else tuple(entrypoint),
        cmd=tuple(command["command"]) if "command" in command else None,
        env=tuple(item for item in spec.process.env if item not in inherited["env"]),
        working_dir=_other(spec.process.cwd, str(config.get("working_dir") or "/")),
        user=_other(spec.process.user, str(config.get("user") or "")),
        exposed_ports=tuple(p for p in spec.exposed if p not in inherited["exposed_ports"]),
        volumes=tuple(path for path in anonymous if path not in inherited["volumes"]),
        labels={k: v for k, v in spec.labels.items() if labels.get(k) != v},
        stop_signal=_other(spec.stop_signal, signal),
        healthcheck=_healthcheck(spec.health) if health_request(spec.health, config) else None,
    )


def own_env(container: Container) -> list[str]:
    """The names of the variables that the container has been given and its image does not hold."""
    inherited = (container.image.config if container.image else {}).get("env") or ()
    items = container.spec.get("process", {}).get("env") or ()
    return [item.partition("=")[0] for item in items if item not in inherited]


def _other(value: str, of_image: str) -> str | None:
    return None if value == of_image else value


def _healthcheck(health: Health | None) -> dict[str, Any]:
    """As Docker writes it: durations in nanoseconds."""
    if health is None:
        return {"Test": ["NONE"]}
    return {
        "Test": ["CMD", *health.test],
        "Interval": round(health.interval * 1e9),
        "Timeout": round(health.timeout * 1e9),
        "StartPeriod": round(health.start_period * 1e9),
        "StartInterval": round(health.start_interval * 1e9),
        "Retries": health.retries,
    }
