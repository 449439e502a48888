"""What a container claims of its host before it exists: name, address, ports, volumes.

Everything here runs inside the transaction that makes the container's row, so that a clash is an
instant Conflict that names its field, and nothing stays claimed when any part fails.

A published port belongs to its container as long as that exists, also while it is stopped (Docker gives
it up meanwhile and lets the later start fail): a container that has been made can always be started.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from dataclasses import replace

from runtime.errors import AddressInUse, AlreadyExists, Conflict, NotFound, PortInUse, SpecInvalid
from runtime.model.parse import parse_address
from runtime.model.parse_ports import PortChoice
from runtime.model.spec import ContainerSpec, EndpointSpec, Mount, PortMapping
from runtime.model.subnets import mac_for, next_address, next_address6
from runtime.model.validate_network import host_address, validate_link_local
from webui.containers import holding
from webui.containers.models import Container
from webui.core.prepared import first, insert
from webui.hosts.models import Host
from webui.images.models import Image
from webui.networks.models import Endpoint, Network, PortReservation
from webui.volumes.models import Volume, VolumeMount

EPHEMERAL = range(32768, 61000)  # where Docker, too, picks host ports
EVERYWHERE = "*"  # of a request, not of a spec: every IPv4 address, and every IPv6 one where the network has it
_EVERYWHERE = ("0.0.0.0", "::")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII)


def check_name(host: Host, name: str, *, other_than: str = "") -> None:
    """Raise AlreadyExists when another container of the host has the name."""
    holder = first(holding.named(host.pk, name))
    if holder not in (None, other_than):
        raise AlreadyExists(
            f"There is a container named {name!r} already.",
            hint=f"Choose another name, or remove or rename {holder[:12]}.",
            field="name",
            holder=holder,
        )


def find_network(host: Host, name: str) -> Network:
    """By name, id, or "" for the default one. Raises NotFound with the field."""
    if name in ("", "bridge"):
        network = first(holding.default_network(host.pk))
    else:
        network = first(holding.network_named(host.pk, name))
        network = network or Network.objects.filter(host=host, pk=name).first()
    if network is None:
        raise NotFound(
            f"There is no network {name!r}." if name else "This host has no default network.",
            hint="Create it first, or choose another network.",
            field="network",
        )
    return network


def choose_address(
    network: Network,
    *,
    address: str,
    address6: str,
    mac_address: str,
    aliases: list[str],
    link_local: list[str] | None = None,
) -> EndpointSpec:
    """An endpoint with the given addresses, or with the lowest free ones; IPv6 where the network has it.

    Raises SpecInvalid for an address that is not the network's, AddressInUse for one that is taken.
    """
    if address6 and not network.ipv6:
        raise SpecInvalid(
            "ip6",
            f"Network {network.name} has no IPv6.",
            hint="Leave the address empty, or choose a network with IPv6.",
        )
    chosen, chosen6 = _free(network, address, "ip"), ""
    if network.ipv6:
        chosen6 = _free(network, address6, "ip6")
    return EndpointSpec(
        network_id=network.pk,
        address=chosen,
        prefix_length=int(network.subnet.partition("/")[2]),
        gateway=network.gateway,
        mac_address=_check_mac(network, mac_address) if mac_address else mac_for(chosen),
        aliases=tuple(aliases),
        address6=chosen6,
        prefix_length6=int(network.subnet6.partition("/")[2]) if chosen6 else 64,
        gateway6=network.gateway6 if chosen6 else "",
        link_local=_check_link_local(network, link_local or []),
    )


def _free(network: Network, address: str, field: str) -> str:
    """The given address, checked, or the lowest free one, of the family that `field` (ip or ip6) stands for."""
    six = field == "ip6"
    subnet, gateway = (
        (network.subnet6, network.gateway6) if six else (network.subnet, network.gateway)
    )
    if address:
        address = _check_address(network, address, field, subnet, gateway)
    taken = {both[six] for both in holding.addresses(network.pk)}
    taken.add(gateway)
    if address and address in taken:
        raise AddressInUse(
            f"{address} is taken on {network.name}.",
            hint="Leave the address empty to get a free one.",
            field=field,
        )
    return address or (next_address6 if six else next_address)(subnet, taken)


def _check_address(network: Network, address: str, field: str, subnet: str, gateway: str) -> str:
    parsed = ipaddress.ip_address(parse_address(address, field))
    if not host_address(parsed, ipaddress.ip_network(subnet)) or str(parsed) == gateway:
        reason = "is the gateway" if str(parsed) == gateway else "is no host's address"
        raise SpecInvalid(
            field,
            f"{address} {reason} of network {network.name} ({subnet}).",
            hint=f"Choose another address of {subnet}, or leave it empty to get a free one.",
        )
    return str(parsed)


def _check_link_local(network: Network, asked: list[str]) -> tuple[str, ...]:
    """Every one once on the network: two with one address take turns in answering."""
    found = [validate_link_local(text, f"link_local_ips[{i}]") for i, text in enumerate(asked)]
    if not found:
        return ()
    others = Container.objects.filter(endpoints__network=network)
    for name, endpoints in others.values_list("name", "spec__endpoints"):
        ours = [e for e in endpoints or () if e["network_id"] == network.pk]
        taken = {address for end in ours for address in end.get("link_local", ())}
        for index, address in enumerate(found):
            if address in taken:
                raise AddressInUse(
                    f"{address} is taken on {network.name}, by container {name}.",
                    hint="Choose another link-local address.",
                    field=f"link_local_ips[{index}]",
                )
    return tuple(found)


def _check_mac(network: Network, mac_address: str) -> str:
    mac = mac_address.lower()
    if not _MAC.fullmatch(mac) or int(mac[:2], 16) & 1:
        raise SpecInvalid(
            "mac_address",
            f"{mac_address!r} is not a unicast MAC address.",
            hint="Write six bytes, the first an even one: 02:42:ac:1e:00:05.",
        )
    if Endpoint.objects.filter(network=network, mac_address=mac).exists():
        raise AddressInUse(
            f"{mac} is taken on {network.name}.",
            hint="Leave the MAC address empty to get one of its own.",
            field="mac_address",
        )
    return mac


def choose_ports(host: Host, spec: ContainerSpec) -> ContainerSpec:
    """The spec with a free host port instead of each 0 and each choice, and an address for each port
    published EVERYWHERE. Raises PortInUse with the field, SpecInvalid for IPv6 that it has not.
    """
    if not spec.ports:
        return spec
    both = any(endpoint.address6 for endpoint in spec.endpoints)
    if not both:
        _refuse_ipv6(spec)
        spec = replace(spec, ports=tuple(_at(port, "0.0.0.0") for port in spec.ports))
    if any(isinstance(port, PortChoice) for port in spec.ports):
        spec = replace(spec, ports=_choose(host, spec.ports))
    if any(port.host_port == 0 for port in spec.ports):
        spec = replace(spec, ports=_pick(host, spec.ports))
    wanted = {port.host_port for port in spec.ports}
    for holder in holding.ports(host.pk, wanted):
        for index, mapping in enumerate(spec.ports):
            if _overlap(holder, mapping):
                raise _taken(index, mapping, holder.container)
    return replace(spec, ports=_on_both(spec.ports)) if both else spec


def _on_both(ports: tuple[PortMapping, ...]) -> tuple[PortMapping, ...]:
    """Two ports for each that is EVERYWHERE, the second after all others: errors name one by its place."""
    seen: dict[tuple[str, int], list[PortMapping]] = {}
    for index, port in enumerate(ports):
        others = seen.setdefault((port.protocol, port.host_port), [])
        if any(_overlap(other, port) for other in others):
            raise SpecInvalid(
                f"ports[{index}]",
                f"Host port {port.host_port}/{port.protocol} is published twice.",
                hint="Choose another host port.",
            )
        others.append(port)
    second = (_at(port, "::") for port in ports if port.host_ip == EVERYWHERE)
    return (*(_at(port, "0.0.0.0") for port in ports), *second)


def _at(port: PortMapping, address: str) -> PortMapping:
    """The port on `address`, when it was to be everywhere."""
    return replace(port, host_ip=address) if port.host_ip == EVERYWHERE else port


def _refuse_ipv6(spec: ContainerSpec) -> None:
    for index, port in enumerate(spec.ports):
        if ":" in port.host_ip and spec.endpoints:
            raise SpecInvalid(
                f"ports[{index}]",
                f"{port.host_ip} is an IPv6 address, and the container's network has no IPv6.",
                hint="Choose a network with IPv6, or publish the port on an IPv4 address.",
            )


def _choose(host: Host, ports: tuple[PortMapping, ...]) -> tuple[PortMapping, ...]:
    """The first port of each choice that no container has, as Docker does."""
    held = list(
        PortReservation.objects.filter(host=host).select_related("container").only(*holding.HOLDER)
    )
    fixed = [port for port in ports if not isinstance(port, PortChoice)]
    result: list[PortMapping] = []
    for index, port in enumerate(ports):
        if isinstance(port, PortChoice):
            options = (
                PortMapping(port.container_port, number, port.protocol, port.host_ip)
                for number in range(port.host_port, port.host_last + 1)
            )
            taken: list[PortReservation | PortMapping] = [*held, *fixed, *result]
            found = next((o for o in options if not any(_overlap(t, o) for t in taken)), None)
            if found is None:
                raise PortInUse(
                    f"No port from {port.host_port} to {port.host_last} is free.",
                    hint="Choose a larger range, or leave the host port out.",
                    field=f"ports[{index}]",
                )
            port = found
        result.append(port)
    return tuple(result)


def _pick(host: Host, ports: tuple[PortMapping, ...]) -> tuple[PortMapping, ...]:
    """Begin anywhere: a port that another program of the host has is not met again and again."""
    held = PortReservation.objects.filter(host=host, host_port__gte=EPHEMERAL.start)
    used = {*held.values_list("host_port", flat=True), *(port.host_port for port in ports)}
    start = secrets.randbelow(len(EPHEMERAL))
    free = (p for p in (*EPHEMERAL[start:], *EPHEMERAL[:start]) if p not in used)
    try:
        return tuple(replace(p, host_port=p.host_port or next(free)) for p in ports)
    except RuntimeError:  # what a generator makes of the end of another
        raise PortInUse("No free host port is left.", field="ports") from None


def _overlap(holder: PortReservation | PortMapping, mapping: PortMapping) -> bool:
    """One address per family stands for all: 0.0.0.0:80 and 127.0.0.1:80 cannot both be had."""
    if (holder.protocol, holder.host_port) != (mapping.protocol, mapping.host_port):
        return False
    one, other = holder.host_ip, mapping.host_ip
    if EVERYWHERE in (one, other):
        return True
    same_family = (":" in one) == (":" in other)
    return one == other or (same_family and (one in _EVERYWHERE or other in _EVERYWHERE))


def _taken(index: int, mapping: PortMapping, holder: Container) -> PortInUse:
    return PortInUse(
        f"Port {mapping.host_port}/{mapping.protocol} is published by container {holder.name}.",
        hint=f"Choose another host port, or remove {holder.name} first.",
        field=f"ports[{index}]",
        port=mapping.host_port,
        holder=holder.pk,
    )


def check_staying(host: Host, image: Image, spec: ContainerSpec) -> None:
    """Raise Conflict when somebody has asked to remove what the container is to be made of, or to move its network.

    That request found it unused or at rest, and its worker has not got to it yet.
    """
    wanted = {image.digest, *(e.network_id for e in spec.endpoints)}
    wanted |= {m.source for m in spec.mounts if m.type == "volume"}
    for kind, name in holding.removals(host.pk, wanted):
        moved = kind == "network.move"
        raise Conflict(
            f"{name} is being {'moved to another subnet' if moved else 'removed'}.",
            hint="Choose another one, or wait until that has ended."
            if moved
            else "Choose another one, or wait until it is gone and make it anew.",
            field=holding.REMOVALS[kind],
        )


def claim(container: Container, spec: ContainerSpec) -> None:
    """Write down what the spec claims, in rows that go with the container's."""
    host = container.host
    endpoints = (
        Endpoint(
            container_id=container.pk,
            network_id=endpoint.network_id,
            address=endpoint.address,
            address6=endpoint.address6,
            mac_address=endpoint.mac_address,
            aliases=list(endpoint.aliases),
        )
        for endpoint in spec.endpoints
    )
    ports = (
        PortReservation(
            host_id=host.pk,
            container_id=container.pk,
            protocol=port.protocol,
            host_ip=port.host_ip,
            host_port=port.host_port,
            container_port=port.container_port,
        )
        for port in spec.ports
    )
    insert(*endpoints, *ports)
    for index, mount in enumerate(spec.mounts):
        if mount.type == "volume":
            _claim_volume(container, mount, f"mounts[{index}]")


def _claim_volume(container: Container, mount: Mount, field: str) -> None:
    """A volume that does not exist comes into being with the container."""
    volume, made = Volume.objects.get_or_create(
        host=container.host, name=mount.source, defaults={"anonymous": mount.anonymous}
    )
    if made and mount.subpath:
        raise SpecInvalid(
            f"{field}.subpath", f"Volume {mount.source} is new and has no directories."
        )
    VolumeMount.objects.create(
        container=container, volume=volume, target=mount.target, read_only=mount.read_only
    )
