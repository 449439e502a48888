"""Networks: bridges of one host."""

from __future__ import annotations

from typing import Any

from runtime.errors import NotFound
from webui.containers.moving import endpoints_in, endpoints_of, network_moved, network_spec
from webui.networks.models import Network
from webui.networks.services import network_delete_row
from workers.base import Job, operation_task
from workers.networks import network_made_where_free


def _take_back(job: Job) -> None:
    """After a create that failed: the row goes, so that name and subnet are free again."""
    network_delete_row(network_id=job.target)


@operation_task("network.create", on_failure=_take_back)
def create(job: Job) -> dict[str, Any]:
    """Make the bridge; nothing happens when it is there."""
    network = Network.objects.filter(pk=job.target).first()
    if network is None:
        raise NotFound("The network does not exist any more.")
    if job.params.get("subnet_may_move"):
        network = network_made_where_free(job.engine, network)
    else:
        job.engine.networks.ensure(network_spec(network))
    return {"id": network.pk, "name": network.name}


def _move_back(job: Job) -> None:
    """After a move that failed: what the database says holds, for the host's disk as well."""
    network = Network.objects.filter(pk=job.target).first()
    if network is not None:
        job.engine.moving.put_back(network_spec(network), endpoints_of(network))


@operation_task("network.move", on_failure=_move_back)
def move(job: Job) -> dict[str, Any]:
    """Another subnet for the network, other addresses for its containers. Raises NetworkInUse while one runs."""
    network = Network.objects.select_related("host").filter(pk=job.target).first()
    if network is None:
        raise NotFound("The network does not exist any more.")
    spec = network_spec(network, **job.params)
    endpoints = endpoints_in(network, spec)
    job.engine.moving.move(spec, endpoints)
    containers = network_moved(
        network=network, spec=spec, endpoints=endpoints, operation=job.operation
    )
    return {
        "id": network.pk,
        "name": network.name,
        "subnet": spec.subnet,
        "subnet6": spec.subnet6,
        "containers": containers,
    }


@operation_task("network.remove")
def remove(job: Job) -> dict[str, Any]:
    """Take the bridge away. Raises NetworkInUse while a container is attached."""
    try:
        job.engine.networks.remove(job.target)
    except NotFound:
        pass  # done already
    network_delete_row(network_id=job.target)
    return {"id": job.target}
