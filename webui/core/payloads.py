"""Rows as JSON: complete, the same for REST, websocket and templates.

Times are RFC 3339 in UTC or null. Callers prefetch what a row reads (`webui.*.selectors`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from django.conf import settings
from django.db.models import QuerySet

from runtime.model.state import Status
from webui.advisor.rules import advice_for
from webui.containers.models import Container
from webui.core.prepared import first, prepared
from webui.core.rows import (
    ContainerRow,
    EventRow,
    HostRow,
    ImageRow,
    LiveOperation,
    NetworkRow,
    OperationRow,
    VolumeRow,
)
from webui.hosts.models import Host
from webui.images.models import Image
from webui.networks.models import Network
from webui.operations.models import Event, Operation
from webui.volumes.models import Volume


def stamp(time: datetime | None) -> str | None:
    """RFC 3339 in UTC, with milliseconds."""
    if time is None:
        return None
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def container_row(container: Container, operation: Operation | None = None) -> ContainerRow:
    """One container. `operation` is its live one when the caller knows it; else it is looked up."""
    return _container_row(container, operation or live_operation("container", container.pk))


def container_rows(containers: Iterable[Container]) -> list[ContainerRow]:
    """Many containers, with one query for the live operations of all."""
    live = Operation.objects.filter(target_type="container", status__in=Operation.LIVE)
    live = live.only("kind", "status", "target_id").order_by("created_at")
    newest = {operation.target_id: operation for operation in live}
    return [_container_row(container, newest.get(container.pk)) for container in containers]


def _container_row(container: Container, live: Operation | None) -> ContainerRow:
    status = Status(container.status)
    spec = container.spec
    return {
        "id": container.pk,
        "short_id": container.pk[:12],
        "name": container.name,
        "status": container.status,
        "status_error": container.status_error,
        "managed": container.managed,
        "present": container.present,
        "image": {
            "id": container.image.digest if container.image else "",
            "reference": container.image_reference,
        },
        "created_at": stamp(container.created_at),
        "started_at": stamp(container.started_at),
        "finished_at": stamp(container.finished_at),
        "exit_code": container.exit_code,
        "exit_reason": container.exit_reason,
        "exit_error": container.exit_error,
        "oom_killed": container.oom_killed,
        "restart_count": container.restart_count,
        "next_restart_at": stamp(container.next_restart_at),
        "restart": spec.get("restart", {}),
        "health": container.health or {"status": "none"},
        "ports": [
            {
                "host_ip": p["host_ip"],
                "host_port": p["host_port"],
                "container_port": p["container_port"],
                "protocol": p["protocol"],
            }
            for p in spec.get("ports", [])
        ],
        "networks": [
            {
                "id": e.network_id,
                "name": e.network.name,
                "address": e.address,
                "address6": e.address6,
            }
            for e in sorted(container.endpoints.all(), key=lambda e: e.pk)  # as they were joined
        ],
        "mounts": spec.get("mounts", []),
        "limits": spec.get("limits", {}),
        "labels": spec.get("labels", {}),
        "actions": list(status.actions),
        "operation": _brief(live),
        "advice": advice_for(container),
        "revision": container.revision,
    }


def _brief(operation: Operation | None) -> LiveOperation | None:
    if operation is None or not operation.is_live:
        return None
    return {"id": str(operation.pk), "kind": operation.kind, "status": operation.status}


def live_operation(target_type: str, target_id: str) -> Operation | None:
    """The newest operation on an object that has not ended."""
    return first(_live(target_type, target_id))


@prepared
def _live(target_type: str, target_id: str) -> QuerySet[Operation]:
    found = Operation.objects.filter(
        target_type=target_type, target_id=target_id, status__in=Operation.LIVE
    )
    return found.only("kind", "status").order_by("-created_at")[:1]


def operation_row(operation: Operation) -> OperationRow:
    return {
        "id": str(operation.pk),
        "kind": operation.kind,
        "target_type": operation.target_type,
        "target_id": operation.target_id,
        "target_name": operation.target_name,
        "user": operation.user.get_username() if operation.user else None,
        "via": operation.via,
        "status": operation.status,
        "progress": operation.progress,
        "result": operation.result,
        "error": operation.error,
        "cancel_requested": operation.cancel_requested,
        "attempts": operation.attempts,
        "created_at": stamp(operation.created_at),
        "started_at": stamp(operation.started_at),
        "finished_at": stamp(operation.finished_at),
    }


def image_row(image: Image) -> ImageRow:
    return {
        "id": image.digest,
        "short_id": image.digest[7:19],
        "references": [r.name for r in image.references.all()],
        "size": image.size,
        "layers": len(image.layers),
        "architecture": image.architecture,
        "os": image.os,
        "manifest_digest": image.manifest_digest,
        "built_at": stamp(image.built_at),
        "added_at": stamp(image.added_at),
        "containers": [{"id": c.pk, "name": c.name} for c in image.containers.all()],
    }


def volume_row(volume: Volume) -> VolumeRow:
    return {
        "id": volume.name,
        "name": volume.name,
        "anonymous": volume.anonymous,
        "labels": volume.labels,
        "size": volume.size,
        "measured_at": stamp(volume.measured_at),
        "created_at": stamp(volume.created_at),
        "containers": [
            {
                "id": m.container_id,
                "name": m.container.name,
                "target": m.target,
                "read_only": m.read_only,
            }
            for m in volume.mounts.all()
        ],
    }


def network_row(network: Network) -> NetworkRow:
    return {
        "id": network.pk,
        "short_id": network.pk[:12],
        "name": network.name,
        "subnet": network.subnet,
        "gateway": network.gateway,
        "ipv6": network.ipv6,
        "subnet6": network.subnet6,
        "gateway6": network.gateway6,
        "internal": network.internal,
        "is_default": network.is_default,
        "labels": network.labels,
        "created_at": stamp(network.created_at),
        "containers": [
            {
                "id": e.container_id,
                "name": e.container.name,
                "address": e.address,
                "address6": e.address6,
            }
            for e in network.endpoints.all()
        ],
    }


def event_row(event: Event) -> EventRow:
    return {
        "id": event.pk,
        "time": stamp(event.time),
        "type": event.type,
        "target_type": event.target_type,
        "target_id": event.target_id,
        "target_name": event.target_name,
        "user": event.user.get_username() if event.user else None,
        "data": event.data,
    }


def host_row(host: Host) -> HostRow:
    return {
        "id": host.pk,
        "name": host.name,
        "facts": host.facts,
        "unmanaged": [
            {
                "id": each["id"],
                "name": each["name"],
                "status": each["status"],
                "managed": False,
                "path": str(settings.SLIPWAY.bundle(each["id"])),
            }
            for each in host.unmanaged
        ],
        "last_seen": stamp(host.last_seen),
    }
