"""What a container takes from others: a network, the namespaces or the mounts of another container."""

from __future__ import annotations

from dataclasses import replace

from runtime.errors import EngineError, NotFound, SpecInvalid
from runtime.model.codec import from_json
from runtime.model.parse_options import parse_network
from runtime.model.spec import ContainerSpec, EndpointSpec, Mount
from webui.containers.aliases import check_aliases, check_not_alias
from webui.containers.models import Container
from webui.containers.requests import ContainerRequest, NetworkRequest
from webui.containers.reserving import choose_address, find_network
from webui.containers.selectors import containers
from webui.hosts.models import Host

_FIELDS = {"network": "network", "pid": "pid", "ipc": "ipc"}


def attach(host: Host, spec: ContainerSpec, request: ContainerRequest) -> ContainerSpec:
    """The spec with an endpoint on each chosen network (none for host, none and container:X), and with
    the ids of the containers whose namespaces it shares. Raises NotFound and AlreadyExists with the field.
    """
    modes = {}
    for name, field in _FIELDS.items():
        mode: str = getattr(spec.namespaces, name)
        if mode.startswith("container:"):
            other = _find(host, mode.removeprefix("container:"), field, field)
            modes[name] = f"container:{other.pk}"
    spec = replace(spec, namespaces=replace(spec.namespaces, **modes))
    if spec.namespaces.network:
        _refuse_addresses(request)
        return spec
    network = find_network(host, request.network)
    check_aliases(network, request.network_aliases, "network_aliases", container_id=spec.id)
    endpoint = choose_address(
        network,
        address=request.ip,
        address6=request.ip6,
        mac_address=request.mac_address,
        aliases=request.network_aliases,
        link_local=request.link_local_ips,
    )
    others = [_further(host, spec, each, i) for i, each in enumerate(request.networks)]
    endpoints = (endpoint, *others)
    check_not_alias(spec.name, (e.network_id for e in endpoints), "name", container_id=spec.id)
    return replace(spec, endpoints=endpoints)


def _further(
    host: Host, spec: ContainerSpec, asked: NetworkRequest | str, index: int
) -> EndpointSpec:
    """An endpoint on another network; errors name its field of the request's list."""
    field = f"networks[{index}]"
    if isinstance(asked, str):
        asked = NetworkRequest.model_validate(parse_network(asked, field))
    try:
        network = find_network(host, asked.name)
        check_aliases(network, asked.aliases, "aliases", container_id=spec.id)
        return choose_address(
            network,
            address=asked.ip,
            address6=asked.ip6,
            mac_address=asked.mac_address,
            aliases=asked.aliases,
            link_local=asked.link_local_ips,
        )
    except EngineError as error:
        inner = str(error.extra.get("field", ""))
        error.extra["field"] = field if inner == "network" else f"{field}.{inner}"
        raise


def _refuse_addresses(request: ContainerRequest) -> None:
    for name in ("networks", "ip", "ip6", "mac_address", "link_local_ips", "network_aliases"):
        if getattr(request, name):
            raise SpecInvalid(
                name,
                f"With {request.network} the container has no network of its own for this.",
                hint="Choose a network by its name, or leave it empty.",
            )


def inherited_mounts(host: Host, texts: list[str]) -> list[Mount]:
    """The volumes and host paths of the containers in "name[:ro|rw]" texts, in their order.

    Raises NotFound or SpecInvalid with the field.
    """
    result: list[Mount] = []
    for index, text in enumerate(texts):
        field = f"volumes_from[{index}]"
        name, _, mode = text.partition(":")
        if mode not in ("", "ro", "rw"):
            raise SpecInvalid(field, f"{field}: {mode!r} is neither ro nor rw.")
        other = _find(host, name, field, "volumes")
        for data in other.spec.get("mounts", []):
            mount = from_json(Mount, data)
            if mount.type != "tmpfs":  # each container's own, as with Docker
                result.append(replace(mount, read_only=mode == "ro" or mount.read_only))
    return result


def _find(host: Host, name: str, field: str, what: str) -> Container:
    found = containers().filter(host=host, name=name).first()
    if found is None and name:
        found = containers().filter(host=host, pk__startswith=name).first()
    if found is None:
        raise NotFound(f"There is no container {name!r} to share the {what} of.", field=field)
    return found
