"""What rows hold (`webui.core.payloads` makes them): the types that mypy holds them to, and that REST's document shows.

Times are RFC 3339 in UTC or null, sizes bytes. Objects of the specification are as the runtime's model has them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import WithJsonSchema
from typing_extensions import TypedDict

from runtime.model.spec import ContainerSpec, Limits, Mount, Restart
from runtime.model.state import Action, Status
from webui.operations.models import Operation


def _words(values: list[str]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": values})


# Texts in a row: which ones there are, the document says.
StatusText = Annotated[str, _words([status.value for status in Status])]
OperationStatus = Annotated[str, _words(Operation.Status.values)]


class ImageOfContainer(TypedDict):
    id: str  # "" when it is gone
    reference: str


class PublishedPort(TypedDict):
    host_ip: str
    host_port: int
    container_port: int
    protocol: str


class JoinedNetwork(TypedDict):
    id: str
    name: str
    address: str
    address6: str


class LiveOperation(TypedDict):
    id: str
    kind: str
    status: OperationStatus


Severity = Literal["critical", "warning", "info"]


class AdviceFix(TypedDict, total=False):
    """A request to REST, or a page to go to (`label` and `url` alone)."""

    label: str
    method: str
    url: str
    body: dict[str, Any]


class AdviceRow(TypedDict):
    rule: str
    severity: Severity
    title: str
    text: str
    fix: AdviceFix | None
    evidence: NotRequired[dict[str, Any]]


class ContainerRow(TypedDict):
    id: str
    short_id: str
    name: str
    status: StatusText
    status_error: str
    managed: bool
    present: bool
    image: ImageOfContainer
    created_at: str | None
    started_at: str | None
    finished_at: str | None
    exit_code: int | None
    exit_reason: str
    exit_error: str
    oom_killed: bool
    restart_count: int
    next_restart_at: str | None
    restart: Restart
    health: dict[str, Any]
    ports: list[PublishedPort]
    networks: list[JoinedNetwork]
    mounts: list[Mount]
    limits: Limits
    labels: dict[str, str]
    actions: list[Action]
    operation: LiveOperation | None
    advice: list[AdviceRow]
    revision: int


class ContainerWhole(ContainerRow):
    """Values of variables are "•••" where `hidden` says so."""

    spec: ContainerSpec
    image_config: dict[str, Any] | None
    hidden: list[str]
    pid: int | None
    usage: dict[str, Any]
    host: str


class UnmanagedContainer(TypedDict):
    id: str
    name: str
    status: str
    managed: bool
    path: str


class OperationRow(TypedDict):
    id: str
    kind: str
    target_type: str
    target_id: str
    target_name: str
    user: str | None
    via: str
    status: OperationStatus
    progress: dict[str, Any]
    result: dict[str, Any]
    error: dict[str, Any] | None
    cancel_requested: bool
    attempts: int
    created_at: str | None
    started_at: str | None
    finished_at: str | None


class NamedContainer(TypedDict):
    id: str
    name: str


class ImageRow(TypedDict):
    id: str
    short_id: str
    references: list[str]
    size: int
    layers: int
    architecture: str
    os: str
    manifest_digest: str
    built_at: str | None
    added_at: str | None
    containers: list[NamedContainer]


class ImageWhole(ImageRow):
    config: dict[str, Any]
    history: list[dict[str, Any]]


class MountingContainer(NamedContainer):
    target: str
    read_only: bool


class VolumeRow(TypedDict):
    id: str
    name: str
    anonymous: bool
    labels: dict[str, str]
    size: int | None
    measured_at: str | None
    created_at: str | None
    containers: list[MountingContainer]


class JoinedContainer(NamedContainer):
    address: str
    address6: str


class NetworkRow(TypedDict):
    id: str
    short_id: str
    name: str
    subnet: str
    gateway: str
    ipv6: bool
    subnet6: str
    gateway6: str
    internal: bool
    is_default: bool
    labels: dict[str, str]
    created_at: str | None
    containers: list[JoinedContainer]


class EventRow(TypedDict):
    id: int
    time: str | None
    type: str
    target_type: str
    target_id: str
    target_name: str
    user: str | None
    data: dict[str, Any]


class HostRow(TypedDict):
    id: str
    name: str
    facts: dict[str, Any]
    unmanaged: list[UnmanagedContainer]
    last_seen: str | None
