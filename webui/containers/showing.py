"""What a change to a container changes on pages: its own row, and those of what it uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from django.db import transaction

from runtime.model.spec import ContainerSpec
from webui.containers.models import Container
from webui.containers.selectors import container_whole
from webui.core.payloads import container_row
from webui.core.publish import publish_row, watched
from webui.core.rows import ContainerRow
from webui.core.soon import soon
from webui.hosts.models import Host
from webui.images.services import image_publish
from webui.networks.services import network_publish
from webui.operations.models import Operation
from webui.volumes.models import Volume
from webui.volumes.services import volume_publish


@dataclass(frozen=True, slots=True)
class Used:
    """What a container uses: found out while its row is there, shown also when that has gone."""

    host: Host
    image: str  # digest, or ""
    networks: list[str]  # ids
    volumes: list[str]  # names


def used_by(container: Container) -> Used:
    networks = container.endpoints.order_by().values_list("network_id", flat=True)
    volumes = Volume.objects.filter(mounts__container=container).distinct()
    return Used(
        host=container.host,
        image=container.image.digest if container.image else "",
        networks=list(networks),
        volumes=list(volumes.values_list("name", flat=True)),
    )


def used_in(spec: ContainerSpec, host: Host, image: str) -> Used:
    """What a container that is being made will use."""
    return Used(
        host=host,
        image=image,
        networks=[endpoint.network_id for endpoint in spec.endpoints],
        volumes=[mount.source for mount in spec.mounts if mount.type == "volume"],
    )


def show_used(used: Used) -> None:
    """Publish the rows that say who uses them, soon after the transaction commits.

    Each holds all its users, so that many starts in a row would otherwise cost the more the more there are.
    """
    for name in used.volumes:
        _publish_soon("volumes", name, partial(volume_publish, host=used.host, name=name))
    for network_id in used.networks:
        _publish_soon("networks", network_id, partial(network_publish, network_id=network_id))
    if used.image:
        _publish_soon("images", used.image, partial(image_publish, digest=used.image))


def _publish_soon(topic: str, key: str, work: Callable[[], None]) -> None:
    def publish() -> None:
        if watched(topic):
            work()

    transaction.on_commit(partial(soon.ask, key, publish))


def show(container: Container, operation: Operation) -> None:
    """Publish the row with the operation that has just been asked for, from what is at hand.

    It comes after the operation has gone to the host, which need not wait for this.
    """

    def publish() -> None:
        if watched("containers", f"container:{container.pk}"):
            publish_row("containers", container_row(container, operation), container.revision)

    transaction.on_commit(publish)


def container_publish(*, container_id: str) -> None:
    """The complete row to everybody who watches."""
    publish, _ = container_news(container_id=container_id)
    publish()


def container_news(
    *, container_id: str, container: Container | None = None
) -> tuple[Callable[[], None], ContainerRow | None]:
    """What publishes the complete row to everybody who watches, and the row; None when it is gone.

    `container` is for who has just read or written it.
    """
    container = container or container_whole(container_id)
    if container is None:
        return lambda: None, None
    row = container_row(container)
    return partial(publish_row, "containers", row, container.revision), row
