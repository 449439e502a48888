"""What a container takes from others: a network, the namespaces or the mounts of another container."""

from __future__ import annotations

from dataclasses import replace

from runtime.errors import NotFound, SpecInvalid
from runtime.model.codec import from_json
from runtime.model.spec import ContainerSpec, Mount
from webui.containers.models import Container
from webui.containers.requests import ContainerRequest
from webui.containers.reserving import choose_address, find_network
from webui.containers.selectors import containers
from webui.hosts.models import Host

_FIELDS = {"network": "network", "pid": "pid", "ipc": "ipc"}


def attach(host: Host, spec: ContainerSpec, request: ContainerRequest) -> ContainerSpec:
    """The spec with one endpoint on the chosen network (none for host, none and container:X), and with
    the ids of the containers whose namespaces it shares. Raises NotFound with the field.
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
    endpoint = choose_address(
        find_network(host, request.network),
        address=request.ip,
        address6=request.ip6,
        mac_address=request.mac_address,
        aliases=request.network_aliases,
        link_local=request.link_local_ips,
    )
    return replace(spec, endpoints=(endpoint,))


def _refuse_addresses(request: ContainerRequest) -> None:
    for name in ("ip", "ip6", "mac_address", "link_local_ips", "network_aliases"):
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
