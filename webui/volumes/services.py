"""Writes to volumes."""

from __future__ import annotations

from collections.abc import Collection

from django.db import transaction
from django.db.models import Prefetch, Q, QuerySet
from django.utils import timezone

from runtime.errors import AlreadyExists, NotFound, VolumeInUse
from runtime.model.validate_names import validate_volume_name
from webui.accounts.models import User
from webui.core.payloads import volume_row
from webui.core.publish import publish_gone, publish_row
from webui.hosts.models import Host
from webui.hosts.services import host_lock
from webui.operations.models import Operation
from webui.operations.services import operation_create
from webui.volumes.models import Volume, VolumeMount


def _mounts() -> QuerySet[VolumeMount]:
    """With their containers' names: in one query, as a container may be removed between two."""
    fields = ("volume", "target", "read_only", "container__name")
    return VolumeMount.objects.select_related("container").only(*fields)


def volumes() -> QuerySet[Volume]:
    """By name, with what a row's payload reads."""
    return (
        Volume.objects.select_related("host")
        .prefetch_related(Prefetch("mounts", _mounts()))
        .order_by("name")
    )


def volume_find(host: Host, name: str) -> Volume:
    volume = volumes().filter(host=host, name=name).first()
    if volume is None:
        raise NotFound(f"There is no volume {name!r}.")
    return volume


def volume_create(
    *, host: Host, name: str, labels: dict[str, str] | None = None, user: User | None, via: str
) -> tuple[Volume, Operation]:
    """Raises SpecInvalid or AlreadyExists for the field "name"."""
    validate_volume_name(name)
    with transaction.atomic():
        host_lock(host=host)
        if Volume.objects.filter(host=host, name=name).exists():
            raise AlreadyExists(
                f"There is a volume named {name!r} already.",
                hint="Use it as it is, or choose another name.",
                field="name",
            )
        volume = Volume.objects.create(host=host, name=name, labels=labels or {})
        operation = _operation(volume, "volume.create", user, via)
        transaction.on_commit(lambda: volume_publish(host=host, name=name))
    return volume, operation


def volume_remove(*, volume: Volume, user: User | None, via: str) -> Operation:
    """Raises VolumeInUse while a container, running or not, mounts it."""
    with transaction.atomic():
        host_lock(host=volume.host)
        holders = sorted(set(volume.mounts.values_list("container__name", flat=True)))
        if holders:
            raise VolumeInUse(
                f"Volume {volume.name} is mounted by {', '.join(holders[:5])}.",
                hint="Remove these containers first; their data stays in the volume.",
                holders=holders,
            )
        return _operation(volume, "volume.remove", user, via)


def _operation(volume: Volume, kind: str, user: User | None, via: str) -> Operation:
    return operation_create(
        host=volume.host,
        kind=kind,
        target_type="volume",
        target_id=volume.name,
        target_name=volume.name,
        user=user,
        via=via,
    )


def volume_delete_row(*, host: Host, name: str) -> None:
    """The host has removed it."""
    if Volume.objects.filter(host=host, name=name, mounts=None).delete()[0]:
        publish_gone("volumes", name)


def volumes_made(*, host: Host, names: list[str]) -> None:
    """They are on the host now, and stay when the container that first wanted them goes."""
    if names:
        Volume.objects.filter(host=host, name__in=names, made=False).update(made=True)


def volumes_unmade(*, host: Host, names: list[str]) -> None:
    """Remove the rows of those that nobody mounts and that were never made, nor are being made."""
    wanted = Operation.objects.filter(
        host=host, kind="volume.create", target_id__in=names, status__in=Operation.LIVE
    ).values("target_id")
    never = Q(anonymous=True) | Q(made=False)
    rows = Volume.objects.filter(never, host=host, name__in=names, mounts=None)
    rows.exclude(name__in=wanted).delete()


def volumes_mounted(*, host_id: str, containers: Collection[str]) -> set[str]:
    """Names of those that any of these containers mounts."""
    mounts = VolumeMount.objects.filter(volume__host_id=host_id, container__in=containers)
    return set(mounts.values_list("volume__name", flat=True))


def volume_measured(*, host_id: str, name: str, size: int) -> None:
    """Bytes on disk, as found just now. One that is on the host and in no row has nobody who asks."""
    rows = Volume.objects.filter(host_id=host_id, name=name)
    rows.update(size=size, measured_at=timezone.now())
    if volume := rows.select_related("host").first():
        volume_publish(host=volume.host, name=name)


def volume_publish(*, host: Host, name: str) -> None:
    volume = volumes().filter(host=host, name=name).first()
    if volume is None:
        publish_gone("volumes", name)
    else:
        publish_row("volumes", volume_row(volume))
