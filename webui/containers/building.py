"""From a request and an image's config to a complete spec. Pure: reads no database, asks no kernel."""

from __future__ import annotations

import secrets
import shlex
from dataclasses import replace
from typing import Any

from runtime.errors import SpecInvalid
from runtime.model.parse import (
    parse_bytes,
    parse_env,
    parse_ulimit,
)
from runtime.model.parse_mounts import parse_volume_spec
from runtime.model.parse_ports import parse_ports
from runtime.model.spec import (
    ContainerSpec,
    Dns,
    Health,
    Mount,
    Namespaces,
    PortMapping,
    Process,
    Security,
)
from webui.containers.requests import ContainerRequest, MountRequest

_ADJECTIVES = (
    "amber", "brisk", "calm", "clear", "coral", "deft", "eager", "early", "fair", "fleet",
    "gentle", "grand", "hazel", "ivory", "jolly", "keen", "level", "lively", "lucid", "merry",
    "mild", "neat", "noble", "pale", "plain", "prime", "quick", "quiet", "rapid", "ready",
    "rosy", "sharp", "silver", "sleek", "smooth", "snug", "solid", "still", "sunny", "swift",
    "teal", "tidy", "trim", "vivid", "warm", "wide", "wise", "young",
)  # fmt: skip
_NOUNS = (
    "anchor", "beacon", "berth", "boat", "bow", "brig", "buoy", "canoe", "channel", "cove",
    "crane", "current", "deck", "dinghy", "dock", "ferry", "galley", "gull", "harbour",
    "haven", "helm", "hull", "island", "jetty", "keel", "kelp", "lagoon", "lock", "mast",
    "moor", "oar", "pier", "port", "quay", "reef", "rudder", "sail", "shore", "skiff", "sloop",
    "spar", "tide", "tiller", "tug", "wake", "wave", "wharf", "yawl",
)  # fmt: skip


def random_name() -> str:
    """Two words that are easy to say: "swift-harbour"."""
    return f"{secrets.choice(_ADJECTIVES)}-{secrets.choice(_NOUNS)}"


def build_spec(
    request: ContainerRequest,
    *,
    container_id: str,
    image: str,
    config: dict[str, Any],
    host_ip: str,
) -> ContainerSpec:
    """A spec without endpoints and with host port 0 where a free one is to be picked.

    `image` is the config's digest, `config` an ImageConfig as JSON. Raises SpecInvalid with the
    request's field.
    """
    mounts = _mounts(request, config)
    return ContainerSpec(
        id=container_id,
        name=request.name or random_name(),
        image=image,
        image_reference=request.image,
        process=_process(request, config),
        hostname=request.hostname,
        domainname=request.domainname,
        limits=request.limits.to_limits(),
        mounts=mounts,
        ports=_ports(request, config, host_ip),
        exposed=tuple(config.get("exposed_ports") or ()),
        namespaces=_namespaces(request),
        dns=Dns(
            servers=tuple(request.dns),
            search=tuple(request.dns_search),
            options=tuple(request.dns_options),
            extra_hosts=request.extra_hosts,
        ),
        restart=request.to_restart(),
        health=_health(config),
        security=Security(
            privileged=request.privileged,
            cap_add=tuple(request.cap_add),
            cap_drop=tuple(request.cap_drop),
            no_new_privileges=request.no_new_privileges,
            read_only_rootfs=request.read_only_rootfs,
            seccomp=request.seccomp,
            sysctls=request.sysctls,
        ),
        stop_signal=request.stop_signal or str(config.get("stop_signal") or "") or "SIGTERM",
        stop_timeout=request.stop_timeout,
        shm_size=parse_bytes(request.shm_size, "shm_size"),
        auto_remove=request.auto_remove,
        labels={**(config.get("labels") or {}), **request.labels},
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
    return Process(
        args=args,
        env=parse_env([*(config.get("env") or ()), *parse_env(request.env)]),
        cwd=request.working_dir or str(config.get("working_dir") or "") or "/",
        user=request.user or str(config.get("user") or ""),
        groups=tuple(request.groups),
        tty=request.tty,
        stdin=request.stdin,
        init=request.init,
        ulimits=tuple(parse_ulimit(u, f"ulimits[{i}]") for i, u in enumerate(request.ulimits)),
    )


def _words(value: list[str] | str | None, field: str) -> tuple[str, ...] | None:
    """None when absent; a text is split as a shell would, without expanding anything."""
    if value is None or value == "":
        return None
    if isinstance(value, list):
        return tuple(value)
    try:
        return tuple(shlex.split(value))
    except ValueError as error:
        raise SpecInvalid(field, f"{field}: {error}.", hint="Close every quote.") from None


def _ports(
    request: ContainerRequest, config: dict[str, Any], host_ip: str
) -> tuple[PortMapping, ...]:
    ports = list(parse_ports(request.ports, "ports", host_ip=host_ip))
    if request.publish_all:
        taken = {(p.container_port, p.protocol) for p in ports}
        exposed = parse_ports(config.get("exposed_ports") or (), "ports", host_ip=host_ip)
        ports += [
            replace(mapping, host_port=0)
            for mapping in exposed
            if (mapping.container_port, mapping.protocol) not in taken
        ]
    return tuple(ports)


def _mounts(request: ContainerRequest, config: dict[str, Any]) -> tuple[Mount, ...]:
    mounts = [_mount(m, f"mounts[{i}]") for i, m in enumerate(request.mounts)]
    mounts += [
        _named(parse_volume_spec(text, f"volumes[{i}]")) for i, text in enumerate(request.volumes)
    ]
    for text in request.tmpfs:
        target, _, options = text.partition(":")
        mounts.append(
            Mount(
                type="tmpfs", target=target, tmpfs_options=tuple(filter(None, options.split(",")))
            )
        )
    covered = {m.target.rstrip("/") for m in mounts}
    for target in config.get("volumes") or ():
        if str(target).rstrip("/") not in covered:
            mounts.append(_named(Mount(type="volume", target=str(target), anonymous=True)))
    return tuple(mounts)


def _mount(request: MountRequest, field: str) -> Mount:
    if request.type == "bind" and not request.source:
        raise SpecInvalid(
            f"{field}.source",
            "A bind mount needs a directory or file of the host.",
            hint="Give an absolute path, or make it a volume.",
        )
    size = (
        None if not request.tmpfs_size else parse_bytes(request.tmpfs_size, f"{field}.tmpfs_size")
    )
    values = request.model_dump(exclude={"tmpfs_size"})
    return _named(Mount(**values, tmpfs_size=size))


def _named(mount: Mount) -> Mount:
    """An anonymous volume gets a name nobody has; it goes with its container when asked to."""
    if mount.type == "volume" and not mount.source:
        return replace(mount, source=secrets.token_hex(32), anonymous=True)
    return mount


def _namespaces(request: ContainerRequest) -> Namespaces:
    if request.network in ("host", "none") or request.network.startswith("container:"):
        return Namespaces(network=request.network)
    return Namespaces()


def _health(config: dict[str, Any]) -> Health | None:
    """The image's HEALTHCHECK; Docker counts its durations in nanoseconds."""
    check = config.get("healthcheck") or {}
    test = list(check.get("Test") or ())
    if not test or test[0] == "NONE":
        return None
    if test[0] == "CMD-SHELL":
        test = [*(config.get("shell") or ("/bin/sh", "-c")), *test[1:]]
    else:
        test = test[1:]

    def seconds(name: str, default: float) -> float:
        return float(check.get(name) or 0) / 1e9 or default

    return Health(
        test=tuple(test),
        interval=seconds("Interval", 30.0),
        timeout=seconds("Timeout", 30.0),
        retries=int(check.get("Retries") or 3),
        start_period=seconds("StartPeriod", 0.0),
        start_interval=seconds("StartInterval", 5.0),
    )
