"""From what the engine tells to the rows that people see; the rows' own services do the writing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runtime.errors import NotFound
from webui.containers.models import Container
from webui.containers.services import container_apply_observed, container_delete_row

if TYPE_CHECKING:
    from runtime.engine import Engine


def container_seen(engine: Engine, container_id: str) -> dict[str, Any]:
    """Look at a container and write what is seen; {"id", "name", "status", "exit_code"} as a result.

    Raises NotFound when the container is not on this host.
    """
    observed = engine.observe(container_id)
    try:
        container = container_apply_observed(container_id=container_id, observed=observed)
    except Container.DoesNotExist:
        raise NotFound("The container does not exist any more.") from None
    return {
        "id": container.pk,
        "name": container.name,
        "status": container.status,
        "exit_code": container.exit_code,
    }


def container_gone(container_id: str) -> None:
    """Remove the row of a container that is not on the host any more, and what it reserved."""
    container_delete_row(container_id=container_id)
