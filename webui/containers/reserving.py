"""What a container claims of its host before it exists: name, address, ports, volumes.

Everything here runs inside the transaction that makes the container's row, so that a clash is an
instant Conflict that names its field, and nothing stays claimed when any part fails.

A published port belongs to its container as long as that exists, also while it is stopped (Docker gives
it up meanwhile and lets the later start fail): a container that has been made can always be started.
"""

from __future__ import annotations

from dataclasses import replace

from runtime.errors import AddressInUse, AlreadyExists, NotFound, PortInUse, SpecInvalid
from runtime.model.spec import ContainerSpec, EndpointSpec, PortMapping
from runtime.model.subnets import mac_for, next_address
from webui.containers.models import Container
from webui.hosts.models import Host
from webui.networks.models import Endpoint, Network, PortReservation
from webui.volumes.models import Volume, VolumeMount

EPHEMERAL = range(32768, 61000)  # where Docker, too, picks host ports
_EVERYWHERE = {"0.0.0.0": 4, "::": 6}


def check_name(host: Host, name: str, *, other_than: str = "") -> None:
    """Raise AlreadyExists when another container of the host has the name."""
    holder = Container.objects.filter(host=host, name=name).exclude(pk=other_than).first()
    if holder is not None:
        raise AlreadyExists(
            f"There is a container named {name!r} already.",
            hint=f"Choose another name, or remove or rename {holder.pk[:12]}.",
            field="name",
            holder=holder.pk,
        )


def find_network(host: Host, name: str) -> Network:
    """By name, id, or "" for the default one. Raises NotFound with the field."""
    networks = Network.objects.filter(host=host)
    if name in ("", "bridge"):
        network = networks.filter(is_default=True).first()
    else:
        network = networks.filter(name=name).first() or networks.filter(pk=name).first()
    if network is None:
        raise NotFound(
            f"There is no network {name!r}." if name else "This host has no default network.",
            hint="Create it first, or choose another network.",
            field="network",
        )
    return network


def reserve_address(
    network: Network, container: Container, *, address: str, mac_address: str, aliases: list[str]
) -> EndpointSpec:
    """Claim an address of the network: the given one, or the lowest free one."""
    taken = set(Endpoint.objects.filter(network=network).values_list("address", flat=True))
    taken.add(network.gateway)
    if address and address in taken:
        raise AddressInUse(
            f"{address} is taken on {network.name}.",
            hint="Leave the address empty to get a free one.",
            field="ip",
        )
    chosen = address or next_address(network.subnet, taken)
    mac = mac_address or mac_for(chosen)
    Endpoint.objects.create(
        container=container, network=network, address=chosen, mac_address=mac, aliases=aliases
    )
    return EndpointSpec(
        network_id=network.pk,
        address=chosen,
        prefix_length=int(network.subnet.partition("/")[2]),
        gateway=network.gateway,
        mac_address=mac,
        aliases=tuple(aliases),
    )


def reserve_ports(host: Host, container: Container, spec: ContainerSpec) -> ContainerSpec:
    """Claim every published port; port 0 becomes a free one. Raises PortInUse with the field."""
    if not spec.ports:
        return spec
    held = list(PortReservation.objects.filter(host=host).select_related("container"))
    chosen: list[PortMapping] = []
    for index, asked in enumerate(spec.ports):
        mapping = asked if asked.host_port else _pick(asked, held)
        holder = next((r for r in held if _overlap(r, mapping)), None)
        if holder is not None:
            same = holder.container_id == container.pk
            raise PortInUse(
                f"Port {mapping.host_port}/{mapping.protocol} is published "
                + ("twice here." if same else f"by container {holder.container.name}."),
                hint="Choose another host port"
                + ("." if same else f", or remove {holder.container.name} first."),
                field=f"ports[{index}]",
                port=mapping.host_port,
                holder=holder.container_id,
            )
        held.append(
            PortReservation.objects.create(
                host=host,
                container=container,
                protocol=mapping.protocol,
                host_ip=mapping.host_ip,
                host_port=mapping.host_port,
                container_port=mapping.container_port,
            )
        )
        chosen.append(mapping)
    return replace(spec, ports=tuple(chosen))


def _pick(asked: PortMapping, held: list[PortReservation]) -> PortMapping:
    used = {r.host_port for r in held}
    for port in EPHEMERAL:
        if port not in used:
            return replace(asked, host_port=port)
    raise PortInUse("No free host port is left.", field="ports")


def _overlap(reservation: PortReservation, mapping: PortMapping) -> bool:
    """One address per family stands for all: 0.0.0.0:80 and 127.0.0.1:80 cannot both be had."""
    if (reservation.protocol, reservation.host_port) != (mapping.protocol, mapping.host_port):
        return False
    one, other = reservation.host_ip, mapping.host_ip
    if one == other:
        return True
    families = [_EVERYWHERE.get(ip) for ip in (one, other)]
    version = {6 if ":" in ip else 4 for ip in (one, other)}
    return len(version) == 1 and any(families)


def reserve_volumes(host: Host, container: Container, spec: ContainerSpec) -> None:
    """Rows for the volumes it mounts; those that do not exist come into being with it."""
    for index, mount in enumerate(spec.mounts):
        if mount.type != "volume":
            continue
        if mount.subpath and not Volume.objects.filter(host=host, name=mount.source).exists():
            raise SpecInvalid(
                f"mounts[{index}].subpath", f"Volume {mount.source} is new and has no directories."
            )
        volume, _ = Volume.objects.get_or_create(
            host=host, name=mount.source, defaults={"anonymous": mount.anonymous}
        )
        VolumeMount.objects.create(
            container=container, volume=volume, target=mount.target, read_only=mount.read_only
        )
