"""From what is asked (ContainerSpec) to what is done (Plan): every default decided, every path resolved."""

from __future__ import annotations

import base64
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from runtime.engine import userns
from runtime.engine.devices import rules_of
from runtime.engine.etc import hostname_of
from runtime.engine.mounts import mount_steps
from runtime.engine.volumes import VolumeManager
from runtime.errors import BadState
from runtime.kernel import apparmor, capabilities, procfs, seccomp, standard
from runtime.model.codec import to_json
from runtime.model.parse import parse_signal
from runtime.model.plan import Capabilities, Interface, Namespaces, Overlay, Plan, UserNamespace
from runtime.model.spec import ContainerSpec, NetworkSpec
from runtime.store.paths import Config

# pid of the init of a running container, for namespaces to join. Raises NotFound or BadState.
PidOf = Callable[[str], int]


def make_plan(
    spec: ContainerSpec,
    *,
    config: Config,
    layers: Sequence[Path],
    snapshot: tuple[Path, Path, Path],
    volumes: VolumeManager,
    cgroup: dict[str, Any],
    networks: dict[str, NetworkSpec],
    pid_of: PidOf,
) -> Plan:
    """The plan of one start. `layers` bottom first, the common one of mount points included; `snapshot` is (upper, work, rootfs).

    Raises SpecInvalid for what the host cannot provide (a bind source, a device), NotFound for a volume.
    """
    security, process = spec.security, spec.process
    caps = held_capabilities(spec)
    profile = (
        "unconfined" if security.privileged and security.seccomp == "default" else security.seccomp
    )
    program = seccomp.compile_profile(profile, caps["bounding"])
    own_network = spec.namespaces.network == ""
    namespaces = _namespaces(spec, pid_of)
    others = [pid for kind in ("network", "pid", "ipc") if (pid := joined(namespaces[kind]))]
    namespaces["user"], user_namespace = userns.choose(spec, config, others)
    return {
        "id": spec.id,
        "bundle": str(config.bundle(spec.id)),
        "run_dir": str(config.container_run(spec.id)),
        "boot_id": boot_id(),
        "hostname": "" if spec.namespaces.uts == "host" else hostname_of(spec),
        "domainname": spec.domainname,
        "overlay": _overlay(spec, config, layers, snapshot),
        "mounts": mount_steps(spec, config, volumes, cgroup, ipc_pid=joined(namespaces["ipc"])),
        "masked_paths": _paths(spec, security.masked_paths, standard.MASKED_PATHS),
        "readonly_paths": _paths(spec, security.readonly_paths, standard.READONLY_PATHS),
        "args": list(process.args),
        "env": environment(spec),
        "cwd": process.cwd or "/",
        "user": process.user,
        "groups": list(process.groups),
        "tty": process.tty,
        "stdin": process.stdin,
        "stdin_once": process.stdin_once,
        "init": process.init,
        "capabilities": caps,
        "no_new_privileges": security.no_new_privileges,
        "seccomp": None if program is None else base64.b64encode(program).decode(),
        "apparmor": security.apparmor if apparmor.enabled() else "",
        "rlimits": rlimits_of(spec),
        "oom_score_adj": spec.limits.oom_score_adj,
        "sysctls": _sysctls(spec, user_namespace),
        "namespaces": namespaces,
        "joined": {str(pid): procfs.start_time(pid) for pid in others},
        "user_namespace": user_namespace,
        "cgroup": cgroup,
        "interfaces": interfaces(spec, networks),
        "wait_for_network": own_network and bool(spec.endpoints),
        "ports": [
            {"protocol": p.protocol, "host_ip": p.host_ip, "host_port": p.host_port}
            for p in spec.ports
        ],
        "logs": to_json(spec.logs),
        "restart": to_json(spec.restart),
        "restart_count": 0,
        "health": None if spec.health is None else to_json(spec.health),
        "stop_signal": parse_signal(spec.stop_signal, "stop_signal"),
        "stop_timeout": float(spec.stop_timeout),
        "auto_remove": spec.auto_remove,
        "events_socket": str(config.events_socket),
    }


def rlimits_of(spec: ContainerSpec) -> list[tuple[str, int, int]]:
    return [(u.name, u.soft, u.hard) for u in spec.process.ulimits]


@functools.cache
def boot_id() -> str:
    """It cannot change under a running process."""
    return procfs.boot_id()


@functools.cache
def _bounding() -> int:
    return capabilities.bounding()


@functools.lru_cache(64)
def _wanted(add: tuple[str, ...], drop: tuple[str, ...], privileged: bool) -> int:
    """Most containers want the same, and each start asks several times."""
    return capabilities.combine(add=add, drop=drop, privileged=privileged)


def held_capabilities(spec: ContainerSpec) -> Capabilities:
    """Docker's sets: nothing inheritable or ambient, and never more than this host's root has."""
    security = spec.security
    held = _wanted(security.cap_add, security.cap_drop, security.privileged) & _bounding()
    return {"bounding": held, "effective": held, "permitted": held, "inheritable": 0, "ambient": 0}


def device_rules(spec: ContainerSpec, default: Sequence[str]) -> list[str] | None:
    """Rules for the device controller; None allows everything."""
    security = spec.security
    if security.privileged:
        return None
    return [*default, *rules_of(spec), *security.device_cgroup_rules]


def environment(spec: ContainerSpec) -> list[str]:
    """The spec's variables, over the three that Docker sets for every container."""
    env = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOSTNAME": hostname_of(spec),
    }
    if spec.process.tty:
        env["TERM"] = "xterm"
    for variable in spec.process.env:
        name, _, value = variable.partition("=")
        env[name] = value
    return [f"{name}={value}" for name, value in env.items()]


def _overlay(
    spec: ContainerSpec, config: Config, layers: Sequence[Path], snapshot: tuple[Path, Path, Path]
) -> Overlay:
    upper, work, rootfs = snapshot
    return {
        "lower": [str(p) for p in reversed(layers)],
        "upper": str(upper),
        "work": str(work),
        "rootfs": str(rootfs),
        "read_only": spec.security.read_only_rootfs,
        "data": str(config.root),
    }


def _paths(
    spec: ContainerSpec, asked: tuple[str, ...] | None, default: tuple[str, ...]
) -> list[str]:
    if asked is not None:
        return list(asked)
    return [] if spec.security.privileged else list(default)


def _sysctls(spec: ContainerSpec, mapping: UserNamespace | None) -> dict[str, str]:
    last_gid = 2147483647 if mapping is None else mapping["gids"][0]["size"] - 1
    own = spec.namespaces.network in ("", "none")
    asked = {k.replace("/", "."): v for k, v in spec.security.sysctls.items()}
    return {**(standard.sysctls(last_gid) if own else {}), **asked}


def _namespaces(spec: ContainerSpec, pid_of: PidOf) -> Namespaces:
    asked = spec.namespaces

    def mode(value: str) -> str:
        if value.startswith("container:"):
            return f"pid:{pid_of(value.removeprefix('container:'))}"
        # "none" is an own namespace into which nothing is put.
        return "host" if value == "host" else "own"

    return {
        "user": "host",
        "network": mode(asked.network),
        "pid": mode(asked.pid),
        "ipc": mode(asked.ipc),
        "uts": mode(asked.uts),
        "cgroup": mode(asked.cgroup),
    }


def joined(mode: str) -> int:
    """The pid in a namespace's "pid:<n>", else 0."""
    return int(mode.removeprefix("pid:")) if mode.startswith("pid:") else 0


def interfaces(spec: ContainerSpec, networks: dict[str, NetworkSpec]) -> list[Interface]:
    """eth0, eth1, … in the order of the endpoints; the first network with a way out has the default route."""
    result: list[Interface] = []
    routed = routed6 = False
    for index, endpoint in enumerate(spec.endpoints):
        network = networks[endpoint.network_id]
        gateway = "" if routed or network.internal else endpoint.gateway
        routed = routed or bool(gateway)
        interface: Interface = {
            "name": f"eth{index}",
            "address": endpoint.address,
            "prefix_length": endpoint.prefix_length,
            "gateway": gateway,
            "mac_address": endpoint.mac_address,
            "mtu": network.mtu,
        }
        if endpoint.address6:
            interface["address6"] = endpoint.address6
            interface["prefix_length6"] = endpoint.prefix_length6
            gateway6 = "" if routed6 or network.internal else endpoint.gateway6
            routed6 = routed6 or bool(gateway6)
            interface["gateway6"] = gateway6
        if endpoint.link_local:
            interface["link_local"] = list(endpoint.link_local)
        result.append(interface)
    return result


def joined_pid(container_id: str, pid: int, status: str) -> int:
    """The pid whose namespaces a new container joins. Raises BadState when there is none."""
    if pid <= 0:
        raise BadState("join", status, (), hint=f"Start container {container_id[:12]} first.")
    return pid
