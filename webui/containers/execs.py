"""Who ran what in a container."""

from __future__ import annotations

from runtime.errors import BadState
from runtime.model.state import Status
from webui.accounts.models import User
from webui.containers.models import Container
from webui.operations.services import event_record

_SHOWN = 500  # characters of a command that an event keeps


def exec_record(
    *, container: Container, user: User, command: list[str], run_as: str, via: str
) -> None:
    """Note it before it is done. Raises BadState unless the container runs."""
    status = Status(container.status)
    if not status.allows("exec"):
        raise BadState("exec", status, status.actions, container=container.name)
    event_record(
        host=container.host,
        type="container.exec",
        target_type="container",
        target_id=container.pk,
        target_name=container.name,
        user=user,
        data={"command": " ".join(command)[:_SHOWN], "user": run_as, "via": via},
    )
