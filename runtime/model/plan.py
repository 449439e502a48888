"""What the launcher is asked to run: a container's spec resolved into data, as the shim executes it.

JSON all through. The engine makes a plan from a ContainerSpec (`runtime.engine.planning`); the shim
adds no policy of its own. Nothing in it needs a library beyond the standard one.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

MountKind = Literal[
    "overlay", "bind", "filesystem", "remount", "attributes", "mask", "symlink", "device"
]


class MountStep(TypedDict):
    """One step towards the container's root file system, done in order inside init's mount namespace.

    `target` is absolute in the container and resolved beneath its root, following no link out of it.
    """

    kind: MountKind
    target: str
    source: NotRequired[
        str
    ]  # bind: host path; symlink: what it points to; device: host device node
    fstype: NotRequired[str]  # filesystem: "proc", "tmpfs", "sysfs", "mqueue", "devpts", "cgroup2"
    data: NotRequired[str]  # option string of the file system
    flags: NotRequired[int]  # MS_* of runtime.kernel.constants
    recursive: NotRequired[bool]  # bind: with the mounts below it, and flags reach these
    submounts: NotRequired[bool]  # bind: with the mounts below it, whatever `recursive` is
    of_pid: NotRequired[int]  # bind: the source is a path in this process's mount namespace
    propagation: NotRequired[str]  # bind: "rprivate" "rshared" …
    make: NotRequired[Literal["dir", "file", ""]]  # make a missing target
    plain: NotRequired[bool]  # no part of the target may be a link: refused, however harmless
    optional: NotRequired[bool]  # a host or kernel without it is fine
    subpath: NotRequired[str]  # bind: below source, resolved without leaving it
    # bind, in a user namespace: its source is opened with the host's rights; "mapped" shows its ids mapped.
    ids: NotRequired[Literal["kept", "mapped"]]
    tree: NotRequired[int]  # bind: descriptor of the mount made of source, by the starter
    shift: NotRequired[tuple[int, int]]  # device: what is added to its owner's uid and gid


class Overlay(TypedDict):
    lower: list[str]  # top first, as overlayfs lists them
    upper: str
    work: str
    rootfs: str  # empty directory of the bundle, the mount point inside the private namespace
    read_only: bool
    data: str  # the instance's directory; layers, writable layers and volumes are below it


class Interface(TypedDict):
    name: str  # "eth0"
    address: str
    prefix_length: int
    gateway: str  # "" = no default route through this one
    mac_address: str
    mtu: NotRequired[int]
    address6: NotRequired[str]
    prefix_length6: NotRequired[int]
    gateway6: NotRequired[str]
    link_local: NotRequired[list[str]]


class HeldPort(TypedDict):
    """A published port: the shim binds it on the host so that no other program takes it unknowingly."""

    protocol: str
    host_ip: str
    host_port: int


class Capabilities(TypedDict):
    """Bit masks, 1 << capability number."""

    bounding: int
    effective: int
    permitted: int
    inheritable: int
    ambient: int


class Namespaces(TypedDict):
    """ "own", "host", or "pid:<n>" to join those of a process (host's pid namespace).

    A user namespace of its "own" is the one that the launcher holds for all containers.
    """

    user: str
    network: str
    pid: str
    ipc: str
    uts: str
    cgroup: str


class IdMap(TypedDict):
    inside: int
    outside: int
    size: int


class UserNamespace(TypedDict):
    uids: list[IdMap]
    gids: list[IdMap]
    required: bool  # asked for: fail rather than do without


class Plan(TypedDict):
    id: str
    bundle: str
    run_dir: str
    boot_id: str
    hostname: str
    domainname: str
    overlay: Overlay
    mounts: list[MountStep]
    masked_paths: list[str]
    readonly_paths: list[str]
    args: list[str]
    env: list[str]
    cwd: str
    user: str
    groups: list[str]
    tty: bool
    stdin: bool
    stdin_once: bool
    init: bool
    capabilities: Capabilities
    no_new_privileges: bool
    seccomp: str | None  # base64 of the BPF program (struct sock_filter[]), None = unconfined
    apparmor: str
    rlimits: list[tuple[str, int, int]]  # ("nofile", soft, hard); -1 = unlimited
    oom_score_adj: int
    sysctls: dict[str, str]
    namespaces: Namespaces
    joined: dict[
        str, int
    ]  # start time of each process in them, by pid: together they are an identity
    user_namespace: UserNamespace | None  # None: namespaces.user is "host"
    cgroup: dict[str, Any]  # {"version": "v1" | "v2", "paths": {controller: directory}}
    interfaces: list[Interface]
    wait_for_network: bool  # init waits until the engine has attached the interfaces and said go
    ports: list[HeldPort]
    logs: dict[str, Any]  # LogOptions
    restart: dict[str, Any]  # Restart
    restart_count: int
    health: dict[str, Any] | None  # Health
    stop_signal: int
    stop_timeout: float  # seconds
    auto_remove: bool
    events_socket: str
