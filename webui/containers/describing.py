"""A specification in words, for the details page: everything in it that differs from the default."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from runtime.errors import SpecInvalid
from runtime.model.codec import from_json, to_json
from runtime.model.spec import ContainerSpec, Limits, LogOptions, Mount, Process
from runtime.model.subnets import mac_for
from runtime.model.validate_userns import needs_host
from webui.containers.health import health_words
from webui.core.templatetags.ui import size

Words = list[tuple[str, str]]  # label, text
NameOf = Callable[[str], str]  # of a container or a network, by id

_NONE = ContainerSpec("", "", "", "", Process(()))


def in_words(spec: dict[str, Any], name_of: NameOf) -> dict[str, Words]:
    """By section of the page: process, limits, network, storage, security, health, logs; and for each mount its
    options, under "mounts". A specification that cannot be read has no words.
    """
    try:
        whole = from_json(ContainerSpec, {**to_json(_NONE), **spec})
    except SpecInvalid:
        return {}
    return {
        "process": list(_process(whole)),
        "limits": list(_limits(whole.limits, whole.shm_size)),
        "network": list(_network(whole, name_of)),
        "storage": [("Root", "read-only")] if whole.security.read_only_rootfs else [],
        "mounts": [(m.target, mount_words(m)) for m in whole.mounts],
        "security": [*_security(whole), *_namespaces(whole, name_of)],
        "health": health_words(whole.health),
        "logs": list(_logs(whole.logs)),
    }


def _process(spec: ContainerSpec) -> Iterator[tuple[str, str]]:
    process = spec.process
    if process.groups:
        yield "Further groups", ", ".join(process.groups)
    if process.tty:
        yield "Terminal", "yes"
    if process.stdin:
        yield "Standard input", "kept open"
    if process.stdin_once:
        yield "End of input", "when an attached client ends its own"
    if process.init:
        yield "Init", "reaps processes and passes signals on"
    for limit in process.ulimits:
        yield f"Limit of {limit.name}", _ulimit(limit.soft, limit.hard)
    if spec.domainname:
        yield "Domain", spec.domainname
    if spec.auto_remove:
        yield "When it ends", "removed, with its anonymous volumes"


def _ulimit(soft: int, hard: int) -> str:
    low, high = ("unlimited" if n == -1 else str(n) for n in (soft, hard))
    return low if soft == hard else f"{low}, at most {high}"


def _limits(limits: Limits, shm_size: int) -> Iterator[tuple[str, str]]:
    swap, memory = limits.memory_swap, limits.memory
    if swap is not None:
        text = f"{size(swap)} together with memory"
        yield "Swap", "no limit" if swap == -1 else "none" if swap == memory else text
    if limits.memory_reservation:
        yield "Soft memory limit", size(limits.memory_reservation)
    if limits.memory_high:
        yield "Slowed above", size(limits.memory_high)
    if limits.memory_swappiness is not None:
        yield "Swappiness", str(limits.memory_swappiness)
    if limits.oom_kill_disable:
        yield "Out of memory", "waits instead of being killed"
    if limits.oom_score_adj:
        yield "OOM score", f"{limits.oom_score_adj:+d}"
    if shm_size != _NONE.shm_size:
        yield "Shared memory", size(shm_size)
    if limits.cpu_quota is not None or limits.cpu_period is not None:
        quota = "no quota" if limits.cpu_quota in (None, -1) else f"{limits.cpu_quota} µs"
        yield "CPU time", f"{quota} in each {limits.cpu_period or 100_000} µs"
    if limits.cpu_shares is not None:
        yield "CPU shares", f"{limits.cpu_shares} (usual: 1024)"
    if limits.cpuset_cpus:
        yield "CPU cores", f"only {limits.cpuset_cpus}"
    if limits.cpuset_mems:
        yield "Memory nodes", f"only {limits.cpuset_mems}"
    if limits.blkio_weight is not None:
        yield "Disk weight", str(limits.blkio_weight)
    for path, weight in limits.blkio_weight_device.items():
        yield f"Weight on {path}", str(weight)
    for field, label, unit in (
        ("device_read_bps", "Reading", ""), ("device_write_bps", "Writing", ""),
        ("device_read_iops", "Reads", " a second"), ("device_write_iops", "Writes", " a second"),
    ):  # fmt: skip
        for path, value in getattr(limits, field).items():
            text = f"{value}{unit}" if unit else f"{size(value)}/s"
            yield f"{label} {path}", f"at most {text}"
    for pages, value in limits.hugetlb.items():
        yield f"Huge pages of {pages}", size(value)


def _network(spec: ContainerSpec, name_of: NameOf) -> Iterator[tuple[str, str]]:
    mode = spec.namespaces.network
    if mode:
        words = {"host": "the host's own", "none": "none: loopback only"}
        yield "Network", words.get(mode) or _shared(mode, name_of)
    for endpoint in spec.endpoints:
        there = f" on {name_of(endpoint.network_id)}" if len(spec.endpoints) > 1 else ""
        if endpoint.aliases:
            yield f"Further names{there}", ", ".join(endpoint.aliases)
        if endpoint.link_local:
            yield f"Link-local addresses{there}", ", ".join(endpoint.link_local)
        if endpoint.mac_address != mac_for(endpoint.address):
            yield f"MAC address{there}", endpoint.mac_address
    published = {f"{port.container_port}/{port.protocol}" for port in spec.ports}
    if quiet := [port for port in spec.exposed if port not in published]:
        yield "Also listens on", ", ".join(quiet)
    for label, values in (
        ("DNS servers", spec.dns.servers),
        ("Search domains", spec.dns.search),
        ("Resolver options", spec.dns.options),
    ):
        if values:
            yield label, ", ".join(values)
    for name, address in spec.dns.extra_hosts.items():
        yield f"Host {name}", "this host" if address == "host-gateway" else address


def mount_words(mount: Mount) -> str:
    """How it is mounted: "read-only, part inner, mounts of the host arrive"."""
    words = ["read-only" if mount.read_only else "read-write"]
    if mount.subpath:
        words.append(f"only {mount.subpath}")
    if mount.nocopy:
        words.append("not filled from the image")
    if mount.propagation != "rprivate":
        words.append(f"propagation {mount.propagation}")
    if mount.recursive != "enabled":
        words.append(
            {"disabled": "without submounts", "writable": "submounts stay writable"}.get(
                mount.recursive, "submounts read-only, too"
            )
        )
    if mount.tmpfs_size is not None:
        words.append(f"at most {size(mount.tmpfs_size)}")
    if mount.tmpfs_mode != 0o1777:
        words.append(f"mode {mount.tmpfs_mode:o}")
    return ", ".join([*words, *mount.tmpfs_options])


def _security(spec: ContainerSpec) -> Iterator[tuple[str, str]]:
    security = spec.security
    if security.privileged:
        yield "Privileged", "yes: as good as root on this host"
    if security.cap_add:
        yield "Capabilities added", ", ".join(security.cap_add)
    if security.cap_drop:
        yield "Capabilities dropped", ", ".join(security.cap_drop)
    if security.no_new_privileges:
        yield "New privileges", "never"
    if security.seccomp != "default":
        own = security.seccomp != "unconfined"
        yield "System calls", "filtered by a profile of its own" if own else "not filtered"
    if security.apparmor:
        yield "AppArmor", security.apparmor
    if security.userns:
        yield "User namespace", "the host's" if security.userns == "host" else "its own"
    elif needs_host(spec):
        yield "User namespace", "the host's: it is given what only the host's root can use"
    for device in security.devices:
        at = "" if device.source == device.target else f" as {device.target}"
        yield "Device", f"{device.source}{at} ({device.permissions})"
    for rule in security.device_cgroup_rules:
        yield "Devices allowed", rule
    yield from security.sysctls.items()
    for label, paths in (
        ("Hidden paths", security.masked_paths),
        ("Protected paths", security.readonly_paths),
    ):
        if paths is not None:
            yield label, ", ".join(paths) or "none"


def _namespaces(spec: ContainerSpec, name_of: NameOf) -> Iterator[tuple[str, str]]:
    for label, mode in (
        ("Processes", spec.namespaces.pid),
        ("Shared memory", spec.namespaces.ipc),
        ("Host name", spec.namespaces.uts),
        ("Control groups", spec.namespaces.cgroup),
    ):
        if mode:
            words = {"host": "the host's", "none": "none"}
            yield label, words.get(mode) or _shared(mode, name_of)


def _shared(mode: str, name_of: NameOf) -> str:
    return f"shared with {name_of(mode.removeprefix('container:'))}"


def _logs(logs: LogOptions) -> Iterator[tuple[str, str]]:
    usual = LogOptions()
    if logs.driver == "none":
        yield "Output", "not kept"
        return
    if (logs.max_size, logs.max_files) != (usual.max_size, usual.max_files):
        yield "Kept", f"{logs.max_files} × {size(logs.max_size)}"
    if logs.non_blocking:
        yield "Slow disk", f"lines are dropped when {size(logs.max_buffer)} wait"
