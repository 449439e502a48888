"""Who ran what in a container, who attached to it, and who took files out or put some in."""

from __future__ import annotations

from typing import Literal

from runtime.errors import BadState
from runtime.model.state import Action, Status
from webui.accounts.models import User
from webui.containers.models import Container
from webui.containers.recording import container_event

_SHOWN = 500  # characters of a command or path that an event keeps


def exec_record(
    *, container: Container, user: User, command: list[str], run_as: str, via: str
) -> None:
    """Note it before it is done. Raises BadState unless the container runs."""
    _require(container, "exec", "exec")
    data = {"command": " ".join(command)[:_SHOWN], "user": run_as, "via": via}
    container_event(container, "container.exec", data, user=user)


def attach_record(*, container: Container, user: User, stdin: bool, via: str) -> None:
    """Note it before it is done; `stdin`: to write, too. Raises BadState unless the container runs."""
    _require(container, "attach", "attach to")
    container_event(container, "container.attach", {"stdin": stdin, "via": via}, user=user)


def copy_record(
    *,
    container: Container,
    user: User,
    kind: Literal["files_read", "files_written", "exported"],
    path: str,
    via: str,
) -> None:
    """Note it when it is known to be possible, and before it is done. To look what is in a directory is noted nowhere."""
    data = {"path": path.replace("\0", "")[:_SHOWN], "via": via}
    container_event(container, f"container.{kind}", data, user=user)


def _require(container: Container, action: Action, words: str) -> None:
    status = Status(container.status)
    if not status.allows(action):
        raise BadState(words, status, status.actions, container=container.name)
