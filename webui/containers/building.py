"""From a request and an image's config to a complete spec. Pure: reads no database, asks no kernel."""

from __future__ import annotations

import json
import re
import secrets
import shlex
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from runtime.errors import SpecInvalid
from runtime.model.parse import parse_bytes, parse_env, parse_ulimit
from runtime.model.parse_mounts import parse_mount, parse_tmpfs, parse_volume_spec, tmpfs_mount
from runtime.model.parse_options import parse_device, parse_hosts, parse_pairs
from runtime.model.parse_ports import parse_ports
from runtime.model.spec import (
    ContainerSpec,
    Dns,
    Mount,
    Namespaces,
    PortMapping,
    Process,
    Security,
    Ulimit,
)
from webui.containers.health import health_of
from webui.containers.naming import random_name
from webui.containers.requests import ContainerRequest, MountRequest

SHM_SIZE = 64 * 1024 * 1024  # bytes, Docker's
_SHELLS = frozenset(("sh", "ash", "bash", "dash", "ksh", "zsh"))


def build_spec(
    request: ContainerRequest,
    *,
    container_id: str,
    image: str,
    config: dict[str, Any],
    host_ip: str,
    inherited: Iterable[Mount] = (),
) -> ContainerSpec:
    """A spec without endpoints and with host port 0 where a free one is to be picked.

    `image` is the config's digest, `config` an ImageConfig as JSON, `inherited` the mounts of the
    containers in `volumes_from`. Raises SpecInvalid with the request's field.
    """
    return ContainerSpec(
        id=container_id,
        name=request.name or random_name(),
        image=image,
        image_reference=request.image,
        process=_process(request, config),
        hostname=request.hostname,
        domainname=request.domainname,
        limits=request.limits.to_limits(),
        mounts=_mounts(request, config, inherited),
        ports=_ports(request, config, host_ip),
        exposed=_exposed(request, config),
        namespaces=_namespaces(request),
        dns=Dns(
            servers=tuple(request.dns),
            search=tuple(request.dns_search),
            options=tuple(request.dns_options),
            extra_hosts=parse_hosts(request.extra_hosts, "extra_hosts"),
        ),
        restart=request.to_restart(),
        health=health_of(request.health, config),
        logs=request.logs.to_options(),
        security=_security(request),
        stop_signal=request.stop_signal or str(config.get("stop_signal") or "") or "SIGTERM",
        stop_timeout=request.stop_timeout,
        shm_size=shm_size_of(request.shm_size),
        auto_remove=request.auto_remove,
        labels={
            **(config.get("labels") or {}),
            **parse_pairs(request.label_file, "label_file", bare=True),
            **parse_pairs(request.labels, "labels", bare=True),
        },
    )


def _security(request: ContainerRequest) -> Security:
    profile = request.seccomp
    paths = {
        name: None if given is None else tuple(given)
        for name in ("masked_paths", "readonly_paths")
        for given in (getattr(request, name),)
    }
    return Security(
        privileged=request.privileged,
        cap_add=tuple(request.cap_add),
        cap_drop=tuple(request.cap_drop),
        no_new_privileges=request.no_new_privileges,
        read_only_rootfs=request.read_only_rootfs,
        seccomp=json.dumps(profile) if isinstance(profile, dict) else profile or "default",
        apparmor=request.apparmor,
        userns="" if request.userns == "default" else request.userns,
        devices=tuple(parse_device(d, f"devices[{i}]") for i, d in enumerate(request.devices)),
        device_cgroup_rules=tuple(request.device_cgroup_rules),
        sysctls=parse_pairs(request.sysctls, "sysctls"),
        **paths,
    )


def _process(request: ContainerRequest, config: dict[str, Any]) -> Process:
    """Docker's rule: a new entrypoint drops the image's command; a new command keeps its entrypoint."""
    entrypoint = _words(request.entrypoint, "entrypoint")
    command = _words(request.command, "command")
    if entrypoint is None:
        entrypoint = tuple(config.get("entrypoint") or ())
        if command is None:
            command = tuple(config.get("cmd") or ())
    args = (*(e for e in entrypoint), *(command or ()))
    if not args:
        raise SpecInvalid(
            "command",
            "The image names no command to run.",
            hint="Give one, for example: sh, or sleep infinity.",
        )
    given = (*parse_env(request.env_file, "env_file"), *parse_env(request.env))
    return Process(
        args=args,
        env=parse_env([*(config.get("env") or ()), *given]),
        cwd=request.working_dir or str(config.get("working_dir") or "") or "/",
        user=request.user or str(config.get("user") or ""),
        groups=tuple(request.groups),
        tty=request.tty,
        stdin=request.stdin,
        stdin_once=request.stdin_once,
        init=is_shell_line(args) and not request.pid if request.init is None else request.init,
        ulimits=ulimits_of(request.ulimits),
    )


def ulimits_of(texts: Iterable[str] | str) -> tuple[Ulimit, ...]:
    """Of `nofile=1024:2048` texts, or the lines of one. Raises SpecInvalid with the field."""
    lines = texts
    if isinstance(texts, str):
        lines = [line for line in texts.splitlines() if line.strip()]
    return tuple(parse_ulimit(text, f"ulimits[{index}]") for index, text in enumerate(lines))


def shm_size_of(value: int | str) -> int:
    """Bytes; Docker's 64 MiB for nothing."""
    return parse_bytes(value or SHM_SIZE, "shm_size")


def is_shell_line(args: tuple[str, ...]) -> bool:
    """`sh -c "…"`: as process 1 a shell ignores SIGTERM and reaps nobody else's children."""
    return (
        len(args) > 2
        and args[0].rpartition("/")[2] in _SHELLS
        and re.fullmatch(r"-[a-z]*c", args[1]) is not None
    )


def _words(value: list[str] | str | None, field: str) -> tuple[str, ...] | None:
    """None when absent; a text is split as a shell would, without expanding anything.

    One empty word (`""`, `[""]`) is no words at all: how `docker run --entrypoint ""` does without the image's.
    """
    if value is None or value == "":
        return None
    try:
        words = tuple(value) if isinstance(value, list) else tuple(shlex.split(value))
    except ValueError as error:
        raise SpecInvalid(field, f"{field}: {error}.", hint="Close every quote.") from None
    return () if words == ("",) else words


def _ports(
    request: ContainerRequest, config: dict[str, Any], host_ip: str
) -> tuple[PortMapping, ...]:
    ports = list(parse_ports(request.ports, "ports", host_ip=host_ip))
    if request.publish_all:
        taken = {(p.container_port, p.protocol) for p in ports}
        exposed = parse_ports(_exposed(request, config), "expose", host_ip=host_ip)
        ports += [
            replace(mapping, host_port=0)
            for mapping in exposed
            if (mapping.container_port, mapping.protocol) not in taken
        ]
    return tuple(ports)


def _exposed(request: ContainerRequest, config: dict[str, Any]) -> tuple[str, ...]:
    """ "80/tcp" of what the image and the request say, each once."""
    asked = parse_ports(request.expose, "expose")
    texts = [*(config.get("exposed_ports") or ())]
    texts += [f"{port.container_port}/{port.protocol}" for port in asked]
    return tuple(dict.fromkeys(texts))


def _mounts(
    request: ContainerRequest, config: dict[str, Any], inherited: Iterable[Mount]
) -> tuple[Mount, ...]:
    """What is asked for, then what other containers have at other places, then the image's volumes."""
    mounts = [_mount(m, f"mounts[{i}]") for i, m in enumerate(request.mounts)]
    mounts += [
        _named(parse_volume_spec(text, f"volumes[{i}]")) for i, text in enumerate(request.volumes)
    ]
    mounts += [parse_tmpfs(text, f"tmpfs[{i}]") for i, text in enumerate(request.tmpfs)]
    covered = {m.target.rstrip("/") for m in mounts}
    for mount in inherited:
        if mount.target.rstrip("/") not in covered:
            covered.add(mount.target.rstrip("/"))
            mounts.append(mount)
    for target in config.get("volumes") or ():
        if str(target).rstrip("/") not in covered:
            mounts.append(_named(Mount(type="volume", target=str(target), anonymous=True)))
    return tuple(mounts)


def _mount(request: MountRequest | str, field: str) -> Mount:
    mount = parse_mount(request, field) if isinstance(request, str) else _as_mount(request, field)
    if mount.type == "bind" and not mount.source:
        raise SpecInvalid(
            f"{field}.source",
            "A bind mount needs a directory or file of the host.",
            hint="Give an absolute path, or make it a volume.",
        )
    return _named(mount)


def _as_mount(request: MountRequest, field: str) -> Mount:
    if request.type == "tmpfs":
        options = list(request.tmpfs_options)
        options += [f"size={request.tmpfs_size}"] if request.tmpfs_size else []
        options += [f"mode={request.tmpfs_mode}"] if request.tmpfs_mode else []
        options += ["ro"] if request.read_only else []
        made = tmpfs_mount(request.target, tuple(options), f"{field}.tmpfs_options")
        return replace(made, source=request.source)
    values = request.model_dump(exclude={"tmpfs_size", "tmpfs_mode", "tmpfs_options"})
    return Mount(**values)


def _named(mount: Mount) -> Mount:
    """An anonymous volume gets a name nobody has; it goes with its container when asked to."""
    if mount.type == "volume" and not mount.source:
        return replace(mount, source=secrets.token_hex(32), anonymous=True)
    return mount


def _namespaces(request: ContainerRequest) -> Namespaces:
    """Modes as Docker names them; a container is named as it was written, its id comes later."""
    network = request.network
    shared = network in ("host", "none") or network.startswith("container:")
    return Namespaces(
        network=network if shared else "",
        pid=_mode(request.pid),
        ipc=_mode(request.ipc),
        uts=_mode(request.uts),
        cgroup=_mode(request.cgroupns),
    )


def _mode(text: str) -> str:
    return "" if text in ("private", "shareable", "default") else text
