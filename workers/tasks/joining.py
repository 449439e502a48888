"""Networks that containers join and leave. Each task calls the engine once, then writes what it has done."""

from __future__ import annotations

from typing import Any

from runtime.errors import NotFound
from runtime.model.codec import from_json
from runtime.model.spec import ContainerSpec, EndpointSpec
from webui.containers.connecting import container_connect_withdrawn, container_networks_follow
from workers.base import Job, operation_task
from workers.networks import network_known
from workers.replica import container_seen


def _follow(job: Job) -> None:
    """After a change that failed: what the host's disk says holds, for what runs and for the database."""
    network_id = str(job.params["network"])
    try:
        spec = job.engine.inspect(job.target)
    except NotFound:
        container_connect_withdrawn(operation=job.operation)
        raise
    container_networks_follow(
        container_id=job.target, spec=spec, network_id=network_id, operation=job.operation
    )
    job.engine.joining.enforce(job.target, network_id)
    container_seen(job)


@operation_task("container.connect", on_failure=_follow)
def connect(job: Job) -> dict[str, Any]:
    """Join the network by the address that is reserved for it."""
    endpoint = from_json(EndpointSpec, job.params["endpoint"], "endpoint")
    network_known(job.engine, endpoint.network_id)
    spec = job.engine.joining.connect(job.target, endpoint)
    return _done(job, spec)


@operation_task("container.disconnect", on_failure=_follow)
def disconnect(job: Job) -> dict[str, Any]:
    """Leave the network; its address is free afterwards."""
    spec = job.engine.joining.disconnect(job.target, str(job.params["network"]))
    return _done(job, spec)


def _done(job: Job, spec: ContainerSpec) -> dict[str, Any]:
    container_networks_follow(
        container_id=job.target,
        spec=spec,
        network_id=str(job.params["network"]),
        operation=job.operation,
    )
    return container_seen(job)
