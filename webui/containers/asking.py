"""A specification as the request that would make it again: what differs from the defaults and the image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from runtime.model.codec import to_json
from runtime.model.spec import (
    ContainerSpec,
    EndpointSpec,
    LogOptions,
    Mount,
    PortMapping,
    Process,
    Security,
    Ulimit,
)
from runtime.model.subnets import mac_for
from webui.containers.building import SHM_SIZE, is_shell_line
from webui.containers.health import health_request

Request = dict[str, Any]
# Empty, they still say something: no init, no patience, nothing hidden.
_SAID = ("init", "stop_timeout", "masked_paths", "readonly_paths")


def request_of(
    spec: ContainerSpec, config: dict[str, Any], *, networks: dict[str, str], names: dict[str, str]
) -> Request:
    """Fields of a ContainerRequest, as JSON; `config` is the image's. What the image gives is left out.

    `networks` and `names` are the names of networks and containers by id. Without: image, name and
    address, which the copy must have of its own; and host ports, of which one only can have each.
    """
    request: Request = {
        **_process(spec.process, config),
        **_network(spec, networks, names),
        **_security(spec.security),
        "hostname": spec.hostname,
        "domainname": spec.domainname,
        "limits": _differing(to_json(spec.limits), to_json(type(spec.limits)())),
        "ulimits": [_ulimit(each) for each in spec.process.ulimits],
        "mounts": [mount_request(m) for m in spec.mounts if not _declared(m, config)],
        "ports": [_port(port) for port in once_everywhere(spec.ports)],
        "expose": [
            port for port in spec.exposed if port not in (config.get("exposed_ports") or ())
        ],
        "restart": to_json(spec.restart) if spec.restart.name != "no" else {},
        "labels": _differing(spec.labels, config.get("labels") or {}),
        "auto_remove": spec.auto_remove,
        "health": health_request(spec.health, config),
        "logs": _differing(to_json(spec.logs), to_json(LogOptions())),
    }
    for name in ("pid", "ipc", "uts"):
        request[name] = _mode(getattr(spec.namespaces, name), names)
    request["cgroupns"] = spec.namespaces.cgroup
    if spec.stop_signal != (config.get("stop_signal") or "SIGTERM"):
        request["stop_signal"] = spec.stop_signal
    if spec.stop_timeout != 10:
        request["stop_timeout"] = spec.stop_timeout
    if spec.shm_size != SHM_SIZE:
        request["shm_size"] = spec.shm_size
    return {name: value for name, value in request.items() if value or name in _SAID}


def _process(process: Process, config: dict[str, Any]) -> Request:
    inherited = set(config.get("env") or ())
    request: Request = {
        **command_request(list(process.args), config),
        "env": _variables(item for item in process.env if item not in inherited),
        "groups": list(process.groups),
        "tty": process.tty,
        "stdin": process.stdin,
        "stdin_once": process.stdin_once,
    }
    if process.cwd != (config.get("working_dir") or "/"):
        request["working_dir"] = process.cwd
    if process.user != (config.get("user") or ""):
        request["user"] = process.user
    if process.init != is_shell_line(process.args):
        request["init"] = process.init
    return request


def command_request(args: list[str], config: dict[str, Any]) -> Request:
    """`entrypoint` and `command` that make `args` of the image's again; {} where they are its own."""
    entrypoint, command = list(config.get("entrypoint") or ()), list(config.get("cmd") or ())
    if args == entrypoint + command:
        return {}
    if entrypoint and args[: len(entrypoint)] == entrypoint and len(args) > len(entrypoint):
        return {"command": args[len(entrypoint) :]}
    if not entrypoint:
        return {"command": args}
    return {"entrypoint": args[:1], "command": args[1:]}


def _variables(items: Iterable[str]) -> dict[str, str]:
    return {name: value for name, _, value in (item.partition("=") for item in items)}


def _network(spec: ContainerSpec, networks: dict[str, str], names: dict[str, str]) -> Request:
    request: Request = {
        "network": _mode(spec.namespaces.network, names),
        "dns": list(spec.dns.servers),
        "dns_search": list(spec.dns.search),
        "dns_options": list(spec.dns.options),
        "extra_hosts": dict(spec.dns.extra_hosts),
    }
    if spec.endpoints:
        endpoint = spec.endpoints[0]
        request["network"] = networks.get(endpoint.network_id, endpoint.network_id)
        request["network_aliases"] = list(endpoint.aliases)
        if endpoint.mac_address != mac_for(endpoint.address):
            request["mac_address"] = endpoint.mac_address
        request["link_local_ips"] = list(endpoint.link_local)
        request["networks"] = [_joined(each, networks) for each in spec.endpoints[1:]]
    return request


def _joined(endpoint: EndpointSpec, networks: dict[str, str]) -> str:
    """Without what only one container can have."""
    name = networks.get(endpoint.network_id, endpoint.network_id)
    aliases = "".join(f",alias={alias}" for alias in endpoint.aliases)
    return f"name={name}{aliases}" if aliases else name


def _mode(mode: str, names: dict[str, str]) -> str:
    other = mode.removeprefix("container:")
    return mode if other == mode else f"container:{names.get(other, other)}"


def _security(security: Security) -> Request:
    request: Request = _differing(to_json(security), to_json(Security()))
    if security.devices:
        request["devices"] = [
            ":".join(
                [d.source] * (d.target == d.source)
                + [d.source, d.target] * (d.target != d.source)
                + [d.permissions] * (d.permissions != "rwm")
            )
            for d in security.devices
        ]
    return request


def _ulimit(limit: Ulimit) -> str:
    return f"{limit.name}={limit.soft}:{limit.hard}"


def once_everywhere(ports: Sequence[PortMapping]) -> list[PortMapping]:
    """The ports as they were asked for: one on every address of both families is one, without an address."""
    half = {replace(port, host_ip="") for port in ports if port.host_ip == "::"}
    half &= {replace(port, host_ip="") for port in ports if port.host_ip == "0.0.0.0"}
    result = []
    for port in ports:
        bare = replace(port, host_ip="")
        if bare not in half or port.host_ip not in ("0.0.0.0", "::"):
            result.append(port)
        elif port.host_ip == "0.0.0.0":
            result.append(bare)
    return result


def _port(port: PortMapping) -> str:
    address = f"[{port.host_ip}]" if ":" in port.host_ip else port.host_ip
    where = f"{address}:" if address else ""
    return f"{where}{port.host_port}:{port.container_port}/{port.protocol}"


def _declared(mount: Mount, config: dict[str, Any]) -> bool:
    """The image asks for it, and a copy gets one of its own."""
    return mount.anonymous and mount.target in (config.get("volumes") or ())


def mount_request(mount: Mount) -> Request:
    """The fields of a MountRequest that differ from its defaults."""
    given = _differing(to_json(mount), to_json(Mount(mount.type, "")))
    given.pop("anonymous", None)
    if mount.anonymous:
        given.pop("source", None)
    if mount.tmpfs_mode != 0o1777:
        given["tmpfs_mode"] = f"{mount.tmpfs_mode:o}"
    return {"type": mount.type, **given}


def _differing(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    absent = object()
    return {name: value for name, value in values.items() if value != defaults.get(name, absent)}
