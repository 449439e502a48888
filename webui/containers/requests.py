"""What people may send about containers: the same for REST, the form and `docker run` words."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from runtime.errors import SpecInvalid
from runtime.model.parse import parse_bytes, parse_restart
from runtime.model.parse_options import parse_device_values, parse_hugetlb
from runtime.model.spec import Limits, LogOptions, Propagation, Recursion, Restart

# Pairs come as an object, as a list of texts or as lines of one text.
Pairs = dict[str, str] | list[str] | str
DeviceValues = dict[str, int | str] | list[str] | str


class Request(BaseModel):
    # A misspelt field must not be dropped in silence.
    model_config = ConfigDict(extra="forbid")


class LimitsRequest(Request):
    """Sizes take bytes or "512m"; null or absent is no limit. memory_swap counts memory and swap
    together: absent is twice the memory, equal to it is no swap, -1 is unlimited.
    """

    memory: int | str | None = None
    memory_swap: int | str | None = None
    memory_reservation: int | str | None = None
    memory_high: int | str | None = None
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    oom_score_adj: int | None = 0
    cpus: float | str | None = None
    cpu_period: int | None = None  # microseconds
    cpu_quota: int | None = None
    cpu_shares: int | None = None
    cpuset_cpus: str | None = ""
    cpuset_mems: str | None = ""
    pids: int | str | None = None
    blkio_weight: int | None = None
    blkio_weight_device: DeviceValues = Field(default_factory=dict)  # "/dev/sda:300"
    device_read_bps: DeviceValues = Field(default_factory=dict)  # "/dev/sda:10m"
    device_write_bps: DeviceValues = Field(default_factory=dict)
    device_read_iops: DeviceValues = Field(default_factory=dict)
    device_write_iops: DeviceValues = Field(default_factory=dict)
    hugetlb: DeviceValues = Field(default_factory=dict)  # "2MB=64m"

    def to_limits(self) -> Limits:
        """Numbers the kernel takes. Raises SpecInvalid with the field."""
        values = self.model_dump()
        for name in ("memory", "memory_swap", "memory_reservation", "memory_high"):
            values[name] = _size(values[name], f"limits.{name}")
        for name, kind in (("cpus", float), ("pids", int)):
            given = values[name] not in (None, "", 0)
            values[name] = _number(kind, values[name], f"limits.{name}") if given else None
        for name in ("cpu_period", "cpu_quota", "cpu_shares", "blkio_weight"):
            values[name] = values[name] or None  # 0 is Docker's word for unset
        if values["memory_swappiness"] == -1:
            values["memory_swappiness"] = None  # and -1 here
        values["oom_score_adj"] = values["oom_score_adj"] or 0
        for name in ("cpuset_cpus", "cpuset_mems"):
            values[name] = values[name] or ""
        for name in _TABLES:
            sizes = name.endswith("_bps")
            values[name] = parse_device_values(values[name], f"limits.{name}", sizes=sizes)
        values["hugetlb"] = parse_hugetlb(values["hugetlb"], "limits.hugetlb")
        return Limits(**values)


_TABLES = (
    "blkio_weight_device", "device_read_bps", "device_write_bps", "device_read_iops",
    "device_write_iops",
)  # fmt: skip


def _size(value: int | str | None, field: str) -> int | None:
    if value in (None, "", 0):
        return None
    return -1 if value in (-1, "-1") else parse_bytes(value, field)


def _number(kind: type[int] | type[float], value: Any, field: str) -> Any:
    try:
        return kind(value)
    except ValueError:
        hint = "Give a number, or leave it empty."
        raise SpecInvalid(field, f"{field}: {value!r} is not a number.", hint=hint) from None


class RestartRequest(Request):
    name: Literal["no", "on-failure", "always", "unless-stopped"] = "no"
    max_retries: int = Field(default=0, ge=0)

    def to_restart(self) -> Restart:
        return Restart(name=self.name, max_retries=self.max_retries)


class JoinRequest(Request):
    """What a container is to have on a network; addresses are chosen unless given."""

    aliases: list[str] = Field(default_factory=list)
    ip: str = ""
    ip6: str = ""
    mac_address: str = ""
    link_local_ips: list[str] = Field(default_factory=list)  # of 169.254.0.0/16 and fe80::/64


class NetworkRequest(JoinRequest):
    """Also as a text: "shop", or "name=shop,ip=172.30.0.9,alias=db"."""

    name: str = Field(min_length=1)


class MountRequest(Request):
    """Also as a text: "type=bind,source=/srv,target=/data,readonly"."""

    type: Literal["volume", "bind", "tmpfs"] = "volume"
    target: str
    source: str = ""
    read_only: bool = False
    propagation: Propagation = "rprivate"  # of a bind
    recursive: Recursion = "enabled"  # of a bind: what becomes of mounts below the source
    subpath: str = ""  # of a volume
    nocopy: bool = False  # of a volume: do not fill it from the image
    tmpfs_size: int | str | None = None
    tmpfs_mode: str = ""  # octal: "1777"
    tmpfs_options: list[str] = Field(default_factory=list)  # "exec", "uid=1000"


class LogsRequest(Request):
    """`driver` "none" keeps no output. `non_blocking` drops lines rather than wait for a slow disk."""

    driver: Literal["file", "json-file", "local", "none"] = "file"
    max_size: int | str = "10m"  # of one file
    max_files: int = 3
    non_blocking: bool = False
    max_buffer: int | str = "1m"  # held in memory, when non_blocking

    def to_options(self) -> LogOptions:
        return LogOptions(
            driver="none" if self.driver == "none" else "file",
            max_size=parse_bytes(self.max_size, "logs.max_size"),
            max_files=self.max_files,
            non_blocking=self.non_blocking,
            max_buffer=parse_bytes(self.max_buffer, "logs.max_buffer"),
        )


class HealthRequest(Request):
    """What is left out is the image's. Durations in seconds, or such as "1m30s"."""

    command: list[str] | str = ""  # a text is a line of the image's shell
    interval: float | str | None = None
    timeout: float | str | None = None
    retries: int | None = Field(default=None, ge=1)
    start_period: float | str | None = None  # failures before that do not count
    start_interval: float | str | None = None  # between looks meanwhile
    disable: bool = False  # no check, whatever the image says


class ContainerRequest(Request):
    """One container to be made; absent fields come from the image."""

    image: str = Field(min_length=1)
    name: str = ""
    command: list[str] | str | None = None
    entrypoint: list[str] | str | None = None
    env: Pairs = Field(default_factory=dict)
    env_file: str = ""  # the text of a file of NAME=value lines; `env` comes over it
    working_dir: str = ""
    user: str = ""
    groups: list[str] = Field(default_factory=list)
    hostname: str = ""
    domainname: str = ""
    tty: bool = False
    stdin: bool = False
    stdin_once: bool = False  # closed when an attached client ends its input
    init: bool | None = None  # null: where the command is a line of a shell
    ports: list[str] = Field(default_factory=list)
    publish_all: bool = False
    expose: list[str] = Field(default_factory=list)
    mounts: list[MountRequest | str] = Field(default_factory=list)
    volumes: list[str] = Field(default_factory=list)
    volumes_from: list[str] = Field(default_factory=list)  # "container" or "container:ro"
    tmpfs: list[str] = Field(default_factory=list)
    limits: LimitsRequest = Field(default_factory=LimitsRequest)
    ulimits: list[str] = Field(default_factory=list)
    restart: RestartRequest | str = Field(default_factory=RestartRequest)
    network: str = ""  # a network's name, "host", "none" or "container:<name>"
    networks: list[NetworkRequest | str] = Field(default_factory=list)  # beside that one
    network_aliases: list[str] = Field(default_factory=list)
    ip: str = ""
    ip6: str = ""
    mac_address: str = ""
    link_local_ips: list[str] = Field(default_factory=list)  # of 169.254.0.0/16 and fe80::/64
    dns: list[str] = Field(default_factory=list)
    dns_search: list[str] = Field(default_factory=list)
    dns_options: list[str] = Field(default_factory=list)
    extra_hosts: Pairs = Field(default_factory=dict)  # name: address or "host-gateway"
    labels: Pairs = Field(default_factory=dict)
    label_file: str = ""  # the text of a file of name=value lines; `labels` come over it
    stop_signal: str = ""
    stop_timeout: int = Field(default=10, ge=-1, le=3600)
    shm_size: int | str = ""  # "" = 64m
    privileged: bool = False
    cap_add: list[str] = Field(default_factory=list)
    cap_drop: list[str] = Field(default_factory=list)
    no_new_privileges: bool = False
    read_only_rootfs: bool = False
    seccomp: str | dict[str, Any] = "default"  # "default", "unconfined" or a profile
    apparmor: str = ""
    userns: Literal["", "default", "host", "private"] = ""
    pid: str = ""  # "", "host" or "container:<name>"
    ipc: str = ""  # "", "private", "shareable", "host", "none" or "container:<name>"
    uts: Literal["", "private", "host"] = ""
    cgroupns: Literal["", "private", "host"] = ""
    devices: list[str] = Field(default_factory=list)  # "/dev/fuse", "/dev/a:/dev/b:rw"
    device_cgroup_rules: list[str] = Field(default_factory=list)  # "c 13:* rwm"
    sysctls: Pairs = Field(default_factory=dict)
    masked_paths: list[str] | None = None  # null: the default list; []: none
    readonly_paths: list[str] | None = None
    health: HealthRequest = Field(default_factory=HealthRequest)
    logs: LogsRequest = Field(default_factory=LogsRequest)
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


class ConnectRequest(JoinRequest):
    """A container, by name or id, to join a network."""

    container: str = Field(min_length=1)


class DisconnectRequest(Request):
    container: str = Field(min_length=1)


class RenameRequest(Request):
    name: str


class CommitRequest(Request):
    """`reference` names the image, "" leaves it without a name; one that another image has is moved with `replace`
    alone. `changes` are instructions of a Dockerfile, a list or the lines of a text.
    """

    reference: str = ""
    message: str = Field(default="", max_length=10_000)
    author: str = Field(default="", max_length=1_000)
    pause: bool = True  # keep it still meanwhile
    changes: list[str] | str = Field(default_factory=list, max_length=100_000)
    replace: bool = False


class UpdateRequest(Request):
    """What changes on a running container; absent fields stay as they are."""

    limits: dict[str, Any] | None = None
    restart: RestartRequest | str | None = None
    ulimits: list[str] | str | None = None  # all of them; an empty list takes every one away
    shm_size: int | str | None = None  # "" = 64m
