"""What people may send about containers: the same for REST, the form and `docker run` words."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from runtime.errors import SpecInvalid
from runtime.model.parse import parse_bytes, parse_restart
from runtime.model.spec import Limits, Restart


class Request(BaseModel):
    # A misspelt field must not be dropped in silence.
    model_config = ConfigDict(extra="forbid")


class LimitsRequest(Request):
    """Sizes take bytes or "512m"; null or absent is no limit."""

    memory: int | str | None = None
    memory_swap: int | str | None = None
    memory_reservation: int | str | None = None
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    oom_score_adj: int = 0
    cpus: float | str | None = None
    cpu_period: int | None = None
    cpu_quota: int | None = None
    cpu_shares: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids: int | str | None = None
    blkio_weight: int | None = None

    def to_limits(self) -> Limits:
        """Numbers the kernel takes. Raises SpecInvalid with the field."""
        values = self.model_dump()
        for name in ("memory", "memory_swap", "memory_reservation"):
            values[name] = _size(values[name], f"limits.{name}")
        if values["cpus"] in ("", 0):
            values["cpus"] = None
        if values["cpus"] is not None:
            values["cpus"] = _number(float, values["cpus"], "limits.cpus")
        if values["pids"] in ("", 0):
            values["pids"] = None
        if values["pids"] is not None:
            values["pids"] = _number(int, values["pids"], "limits.pids")
        return Limits(**values)


def _size(value: int | str | None, field: str) -> int | None:
    if value in (None, "", 0):
        return None
    return -1 if value in (-1, "-1") else parse_bytes(value, field)


def _number(kind: type[int] | type[float], value: Any, field: str) -> Any:
    try:
        return kind(value)
    except ValueError:
        raise SpecInvalid(field, f"{field}: {value!r} is not a number.") from None


class RestartRequest(Request):
    name: Literal["no", "on-failure", "always", "unless-stopped"] = "no"
    max_retries: int = Field(default=0, ge=0)

    def to_restart(self) -> Restart:
        return Restart(name=self.name, max_retries=self.max_retries)


class MountRequest(Request):
    type: Literal["volume", "bind", "tmpfs"] = "volume"
    target: str
    source: str = ""
    read_only: bool = False
    propagation: Literal["private", "rprivate", "shared", "rshared", "slave", "rslave"] = "rprivate"
    subpath: str = ""
    nocopy: bool = False
    tmpfs_size: int | str | None = None


class ContainerRequest(Request):
    """One container to be made; absent fields come from the image."""

    image: str = Field(min_length=1)
    name: str = ""
    command: list[str] | str | None = None
    entrypoint: list[str] | str | None = None
    env: dict[str, str] | list[str] = Field(default_factory=dict)
    working_dir: str = ""
    user: str = ""
    groups: list[str] = Field(default_factory=list)
    hostname: str = ""
    domainname: str = ""
    tty: bool = False
    stdin: bool = False
    init: bool = False
    ports: list[str] = Field(default_factory=list)
    publish_all: bool = False
    mounts: list[MountRequest] = Field(default_factory=list)
    volumes: list[str] = Field(default_factory=list)
    tmpfs: list[str] = Field(default_factory=list)
    limits: LimitsRequest = Field(default_factory=LimitsRequest)
    ulimits: list[str] = Field(default_factory=list)
    restart: RestartRequest | str = Field(default_factory=RestartRequest)
    network: str = ""
    network_aliases: list[str] = Field(default_factory=list)
    ip: str = ""
    mac_address: str = ""
    dns: list[str] = Field(default_factory=list)
    dns_search: list[str] = Field(default_factory=list)
    dns_options: list[str] = Field(default_factory=list)
    extra_hosts: dict[str, str] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    stop_signal: str = ""
    stop_timeout: int = Field(default=10, ge=-1, le=3600)
    shm_size: int | str = 64 * 1024 * 1024
    privileged: bool = False
    cap_add: list[str] = Field(default_factory=list)
    cap_drop: list[str] = Field(default_factory=list)
    no_new_privileges: bool = False
    read_only_rootfs: bool = False
    seccomp: str = "default"
    sysctls: dict[str, str] = Field(default_factory=dict)
    auto_remove: bool = False
    start: bool = True

    def to_restart(self) -> Restart:
        if isinstance(self.restart, str):
            return parse_restart(self.restart, "restart")
        return self.restart.to_restart()


class StopRequest(Request):
    timeout: float | None = Field(
        default=None, ge=-1, le=3600
    )  # seconds; null = the container's own
    signal: str | None = None


class KillRequest(Request):
    signal: str = "SIGKILL"


class RenameRequest(Request):
    name: str


class UpdateRequest(Request):
    """What changes on a running container; absent fields stay as they are."""

    limits: dict[str, Any] | None = None
    restart: RestartRequest | str | None = None
