"""What a user asks for: the container's specification, as frozen data.

Sizes are bytes, durations seconds, CPU in cores unless a name says otherwise. A spec is complete: image
defaults are merged in before it is made (webui.containers.services), so the runtime adds no guesses.
`validate.py` checks one; `codec.py` reads and writes JSON. Terms follow the `docker run` reference.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

RestartName = Literal["no", "on-failure", "always", "unless-stopped"]
MountType = Literal["volume", "bind", "tmpfs"]
Protocol = Literal["tcp", "udp", "sctp"]
Propagation = Literal["private", "rprivate", "shared", "rshared", "slave", "rslave"]
# What a bind does with the mounts below its source: takes them along (and read_only reaches them),
# leaves them out, takes them along writable, or insists that read_only reaches them.
Recursion = Literal["enabled", "disabled", "writable", "readonly"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Requested limits; None leaves the kernel's default (no limit)."""

    memory: int | None = None  # bytes
    memory_swap: int | None = (
        None  # bytes of memory + swap; -1 unlimited; None = twice memory (Docker)
    )
    memory_reservation: int | None = None  # bytes, soft
    memory_high: int | None = None  # bytes above which it is slowed down, cgroup v2
    memory_swappiness: int | None = None  # 0..100, cgroup v1
    oom_kill_disable: bool = False  # cgroup v1
    oom_score_adj: int = 0  # -1000..1000
    cpus: float | None = None  # cores; shorthand for quota / period
    cpu_period: int | None = None  # microseconds
    cpu_quota: int | None = None  # microseconds per period
    cpu_shares: int | None = None  # 2..262144, relative weight
    cpuset_cpus: str = ""  # "0-2,4"
    cpuset_mems: str = ""
    pids: int | None = None  # processes and threads; -1 unlimited
    blkio_weight: int | None = None  # 10..1000
    blkio_weight_device: dict[str, int] = field(default_factory=dict)  # path -> weight
    device_read_bps: dict[str, int] = field(default_factory=dict)  # path -> bytes/s
    device_write_bps: dict[str, int] = field(default_factory=dict)
    device_read_iops: dict[str, int] = field(default_factory=dict)  # path -> operations/s
    device_write_iops: dict[str, int] = field(default_factory=dict)
    hugetlb: dict[str, int] = field(default_factory=dict)  # "2MB" -> bytes


@dataclass(frozen=True, slots=True)
class Ulimit:
    name: str  # "nofile"
    soft: int  # -1 unlimited
    hard: int


@dataclass(frozen=True, slots=True)
class Mount:
    """A volume's, host directory's or tmpfs's attachment at `target` in the container."""

    type: MountType
    target: str
    source: str = ""  # volume name, absolute host path, or "" for tmpfs
    read_only: bool = False
    propagation: Propagation = "rprivate"  # bind only
    recursive: Recursion = "enabled"  # bind only
    subpath: str = ""  # volume only
    nocopy: bool = False  # volume only: do not fill an empty volume from the image
    tmpfs_size: int | None = None  # bytes
    tmpfs_mode: int = 0o1777
    tmpfs_options: tuple[str, ...] = ()  # "exec", "uid=1000", "nr_inodes=1k"; see parse_tmpfs
    anonymous: bool = (
        False  # volume made for an image's VOLUME; removed with the container on request
    )


@dataclass(frozen=True, slots=True)
class PortMapping:
    """`host_ip:host_port -> container_port/protocol`, always concrete (ranges are expanded before)."""

    container_port: int
    host_port: int
    protocol: Protocol = "tcp"
    host_ip: str = "0.0.0.0"


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """One attachment to a network. Address and MAC are reserved in the database beforehand."""

    network_id: str
    address: str  # "172.30.0.5"
    prefix_length: int
    gateway: str
    mac_address: str  # "02:42:…"
    aliases: tuple[str, ...] = ()  # extra names on this network
    address6: str = ""
    prefix_length6: int = 64
    gateway6: str = ""
    link_local: tuple[str, ...] = ()  # further addresses, of 169.254.0.0/16 and fe80::/64


@dataclass(frozen=True, slots=True)
class Restart:
    name: RestartName = "no"
    max_retries: int = 0  # on-failure only; 0 = without end


@dataclass(frozen=True, slots=True)
class Health:
    """A command that tells whether the container works. Durations in seconds."""

    test: tuple[str, ...]  # argv; ("CMD-SHELL", line) is resolved to the shell beforehand
    interval: float = 30.0
    timeout: float = 30.0
    retries: int = 3
    start_period: float = 0.0
    start_interval: float = 5.0


@dataclass(frozen=True, slots=True)
class LogOptions:
    driver: Literal["file", "none"] = "file"
    max_size: int = 10 * 1024 * 1024  # bytes per file
    max_files: int = 3
    non_blocking: bool = False  # drop rather than stall the container when the disk is slow
    max_buffer: int = 1024 * 1024  # bytes held when non_blocking


@dataclass(frozen=True, slots=True)
class Device:
    source: str
    target: str
    permissions: str = "rwm"


@dataclass(frozen=True, slots=True)
class Security:
    privileged: bool = False
    cap_add: tuple[str, ...] = ()  # "NET_ADMIN" or "ALL"
    cap_drop: tuple[str, ...] = ()
    no_new_privileges: bool = False
    seccomp: str = "default"  # "default", "unconfined" or a profile as JSON text
    apparmor: str = ""  # profile name or "unconfined"; "" = the host's default
    userns: Literal["", "host", "private"] = ""  # "" = the installation's default
    read_only_rootfs: bool = False
    devices: tuple[Device, ...] = ()
    device_cgroup_rules: tuple[str, ...] = ()  # "c 13:* rwm"
    sysctls: dict[str, str] = field(default_factory=dict)
    masked_paths: tuple[str, ...] | None = None  # None = the default list
    readonly_paths: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Modes: "" own namespace, "host", and where noted "container:<id>" or "none"."""

    network: str = ""  # "", "host", "none", "container:<id>"
    pid: str = ""  # "", "host", "container:<id>"
    ipc: str = ""  # "", "host", "none", "container:<id>"
    uts: str = ""  # "", "host"
    cgroup: str = ""  # "", "host"


@dataclass(frozen=True, slots=True)
class Dns:
    servers: tuple[str, ...] = ()  # () = Slipway's resolver
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    extra_hosts: dict[str, str] = field(default_factory=dict)  # name -> address or "host-gateway"


@dataclass(frozen=True, slots=True)
class Process:
    args: tuple[str, ...]  # entrypoint + command, never empty
    env: tuple[str, ...] = ()  # "NAME=value"
    cwd: str = "/"  # created when absent
    user: str = ""  # "", "name", "uid", "name:group", "uid:gid"; resolved inside the image
    groups: tuple[str, ...] = ()  # supplementary, names or numbers
    tty: bool = False
    stdin: bool = False  # keep stdin open
    stdin_once: bool = False  # until an attached client ends its own
    init: bool = False  # put a reaping init before the command
    ulimits: tuple[Ulimit, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """Everything the runtime needs to make and run one container."""

    id: str  # 64 hex digits
    name: str
    image: str  # digest of the image's config, "sha256:…"
    image_reference: str  # what the user wrote; for display only
    process: Process
    hostname: str = ""  # "" = the first 12 digits of id
    domainname: str = ""
    limits: Limits = Limits()
    mounts: tuple[Mount, ...] = ()
    ports: tuple[PortMapping, ...] = ()
    exposed: tuple[str, ...] = ()  # "80/tcp", for display
    endpoints: tuple[EndpointSpec, ...] = ()
    namespaces: Namespaces = Namespaces()
    dns: Dns = Dns()
    restart: Restart = Restart()
    health: Health | None = None
    logs: LogOptions = LogOptions()
    security: Security = Security()
    stop_signal: str = "SIGTERM"
    stop_timeout: int = 10  # seconds between stop_signal and SIGKILL
    shm_size: int = 64 * 1024 * 1024
    auto_remove: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    version: int = 1

    @property
    def short_id(self) -> str:
        return self.id[:12]


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """One bridge and its subnet on one host."""

    id: str  # 64 hex digits
    name: str
    subnet: str  # "172.30.0.0/16"
    gateway: str  # address of the bridge
    subnet6: str = ""
    gateway6: str = ""
    internal: bool = False  # no way out of the host
    mtu: int = 1500
    labels: dict[str, str] = field(default_factory=dict)
