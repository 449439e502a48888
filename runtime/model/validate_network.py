"""The network part of a specification: namespaces to join, endpoints, ports, names, and networks."""

from __future__ import annotations

import ipaddress
import re

from runtime.errors import SpecInvalid
from runtime.model.parse import parse_address
from runtime.model.spec import ContainerSpec, EndpointSpec, NetworkSpec
from runtime.model.validate_names import ID, validate_hostname, validate_name

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network
LINK_LOCAL: tuple[Subnet, ...] = (
    ipaddress.IPv4Network("169.254.0.0/16"), ipaddress.IPv6Network("fe80::/64")
)  # fmt: skip
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII | re.IGNORECASE)


def validate_joins_and_endpoints(spec: ContainerSpec, *, made: bool = False) -> None:
    mode = spec.namespaces.network
    _validate_joins(spec)
    own = mode == ""
    if spec.endpoints and not own:
        raise SpecInvalid("endpoints", f"A container with network mode {mode!r} joins no network.")
    if spec.ports and not (own and (spec.endpoints or made)):
        raise SpecInvalid(
            "ports",
            "Ports are published through a network, and the container joins none.",
            hint="Choose a network, or remove the ports.",
        )
    networks: set[str] = set()
    for index, endpoint in enumerate(spec.endpoints):
        field = f"endpoints[{index}]"
        if endpoint.network_id in networks:
            raise SpecInvalid(f"{field}.network_id", "The container joins one network twice.")
        networks.add(endpoint.network_id)
        _validate_endpoint(endpoint, field)
    dns = spec.dns
    if mode.startswith("container:"):
        # They are the other container's, whose network and resolver it shares.
        for field, value in (
            ("hostname", spec.hostname), ("dns.servers", dns.servers), ("dns.search", dns.search),
            ("dns.options", dns.options), ("dns.extra_hosts", dns.extra_hosts),
        ):  # fmt: skip
            if value:
                raise SpecInvalid(
                    field, "This belongs to the container whose network is shared.",
                    hint="Set it there, or choose another network.",
                )  # fmt: skip
    for index, server in enumerate(dns.servers):
        parse_address(server, f"dns.servers[{index}]")
    for index, domain in enumerate(dns.search):
        if domain != ".":
            validate_hostname(domain, f"dns.search[{index}]")
    for index, option in enumerate(dns.options):
        if not re.fullmatch(r"[a-z0-9:-]+", option, re.ASCII):
            raise SpecInvalid(f"dns.options[{index}]", f"{option!r} is not a resolver option.")
    for name, address in dns.extra_hosts.items():
        validate_hostname(name or " ", f"dns.extra_hosts.{name}")
        if address != "host-gateway":
            parse_address(address, f"dns.extra_hosts.{name}")


def _validate_joins(spec: ContainerSpec) -> None:
    choices = {
        "network": ("", "host", "none"), "pid": ("", "host"), "ipc": ("", "host", "none"),
        "uts": ("", "host"), "cgroup": ("", "host"),
    }  # fmt: skip
    for name, fixed in choices.items():
        mode: str = getattr(spec.namespaces, name)
        joins = mode.startswith("container:") and name in ("network", "pid", "ipc")
        if joins and not ID.fullmatch(mode.removeprefix("container:")):
            raise SpecInvalid(f"namespaces.{name}", f"{mode!r} does not name a container's id.")
        if joins and mode.removeprefix("container:") == spec.id:
            raise SpecInvalid(f"namespaces.{name}", "A container cannot join itself.")
        if not joins and mode not in fixed:
            raise SpecInvalid(f"namespaces.{name}", f"{mode!r} is not a mode of {name} namespaces.")
    if spec.hostname and spec.namespaces.uts == "host":
        raise SpecInvalid(
            "hostname", "A container with the host's names has no host name of its own."
        )


def _validate_endpoint(endpoint: EndpointSpec, field: str) -> None:
    if not ID.fullmatch(endpoint.network_id):
        raise SpecInvalid(f"{field}.network_id", "network_id must be 64 hexadecimal digits.")
    pairs = [("address", endpoint.address, "gateway", endpoint.gateway, endpoint.prefix_length, 32)]
    if endpoint.address6:
        pairs.append(("address6", endpoint.address6, "gateway6", endpoint.gateway6,
                      endpoint.prefix_length6, 128))  # fmt: skip
    for name, address, gateway_name, gateway, prefix, width in pairs:
        parse_address(address, f"{field}.{name}")
        if not 1 <= prefix <= width:
            raise SpecInvalid(f"{field}.{name}", f"{prefix} is not a prefix length.")
        subnet = ipaddress.ip_interface(f"{address}/{prefix}").network
        if subnet.max_prefixlen != width:
            raise SpecInvalid(f"{field}.{name}", f"{address} is of the other address family.")
        if not host_address(ipaddress.ip_address(address), subnet):
            raise SpecInvalid(f"{field}.{name}", f"{address} is not a host's address in {subnet}.")
        if gateway:
            parse_address(gateway, f"{field}.{gateway_name}")
            if ipaddress.ip_address(gateway) not in subnet:
                raise SpecInvalid(f"{field}.{gateway_name}", f"{gateway} is outside {subnet}.")
            if gateway == address:
                raise SpecInvalid(f"{field}.{name}", f"{address} is the network's own gateway.")
    if not _MAC.fullmatch(endpoint.mac_address) or int(endpoint.mac_address[:2], 16) & 1:
        raise SpecInvalid(
            f"{field}.mac_address", f"{endpoint.mac_address!r} is not a unicast MAC address."
        )
    seen = [validate_link_local(text, f"{field}.link_local") for text in endpoint.link_local]
    if len(set(seen)) < len(seen):
        raise SpecInvalid(f"{field}.link_local", "One link-local address is given twice.")
    for alias in endpoint.aliases:
        validate_hostname(alias or " ", f"{field}.aliases")


def validate_link_local(text: str, field: str) -> str:
    """The address in its shortest form. Raises SpecInvalid unless a host may have it beside others of a link."""
    shown = parse_address(text, field)
    address = ipaddress.ip_address(shown)
    if not any(
        subnet.version == address.version and host_address(address, subnet) for subnet in LINK_LOCAL
    ):
        raise SpecInvalid(
            field,
            f"{shown} is no link-local address.",
            hint="Write one of 169.254.0.0/16 or fe80::/64, such as 169.254.0.5.",
        )
    return shown


def host_address(address: Address, subnet: Subnet) -> bool:
    """Whether a host of `subnet` may have `address`: IPv6 knows no broadcast address."""
    ends = [subnet.network_address]
    if subnet.version == 4:
        ends.append(subnet.broadcast_address)
    return address in subnet and address not in ends


def validate_network(spec: NetworkSpec) -> None:
    """Raise SpecInvalid when a network's subnets and gateways do not fit together."""
    if not ID.fullmatch(spec.id):
        raise SpecInvalid("id", "id must be 64 hexadecimal digits.")
    validate_name(spec.name)
    try:
        subnet = ipaddress.IPv4Network(spec.subnet)
    except ValueError:
        raise SpecInvalid(
            "subnet",
            f"{spec.subnet!r} is not an IPv4 subnet.",
            hint="Write the first address and the prefix length: 172.30.0.0/16.",
        ) from None
    if not 8 <= subnet.prefixlen <= 29:
        raise SpecInvalid(
            "subnet", f"A /{subnet.prefixlen} is not possible.", hint="Use /8 to /29."
        )
    if subnet.is_loopback or subnet.is_multicast or subnet.is_link_local or subnet.is_reserved:
        raise SpecInvalid("subnet", f"{subnet} is reserved.", hint="Use a private subnet.")
    gateway = ipaddress.ip_address(parse_address(spec.gateway, "gateway"))
    if not host_address(gateway, subnet):
        raise SpecInvalid("gateway", f"{spec.gateway} is not a host's address in {subnet}.")
    if not 68 <= spec.mtu <= 65535:
        raise SpecInvalid("mtu", f"An MTU of {spec.mtu} is not possible.", hint="1500 is usual.")
    if spec.subnet6 or spec.gateway6:
        _validate_subnet6(spec)


def _validate_subnet6(spec: NetworkSpec) -> None:
    try:
        subnet = ipaddress.IPv6Network(spec.subnet6)
    except ValueError:
        raise SpecInvalid(
            "subnet6",
            f"{spec.subnet6!r} is not an IPv6 subnet.",
            hint="Write the first address and the prefix length: fd00:0:0:1::/64.",
        ) from None
    if not 16 <= subnet.prefixlen <= 126:
        raise SpecInvalid(
            "subnet6", f"A /{subnet.prefixlen} is not possible.", hint="Use /64, or /16 to /126."
        )
    mapped = ipaddress.IPv6Network("::ffff:0:0/96")
    if (
        subnet.is_loopback or subnet.is_multicast or subnet.is_link_local
        or subnet.overlaps(mapped) or subnet.network_address.is_unspecified
    ):  # fmt: skip
        raise SpecInvalid(
            "subnet6", f"{subnet} is reserved.", hint="Use a part of fd00::/8, or one of your own."
        )
    if not host_address(ipaddress.ip_address(parse_address(spec.gateway6, "gateway6")), subnet):
        raise SpecInvalid("gateway6", f"{spec.gateway6} is not a host's address in {subnet}.")
    if spec.mtu < 1280:
        raise SpecInvalid(
            "mtu", f"IPv6 needs an MTU of 1280 or more, not {spec.mtu}.", hint="1500 is usual."
        )


def validate_ports(spec: ContainerSpec) -> None:
    """Raise SpecInvalid for a port outside 1 to 65535, a bad address, or one published twice."""
    taken: dict[tuple[str, int], set[str]] = {}
    for index, port in enumerate(spec.ports):
        field = f"ports[{index}]"
        for name in ("host_port", "container_port"):
            if not 1 <= getattr(port, name) <= 65535:
                raise SpecInvalid(f"{field}.{name}", f"{name} must be 1 to 65535.")
        address = parse_address(port.host_ip, f"{field}.host_ip")
        if "%" in address or address.startswith("::ffff:"):
            raise SpecInvalid(
                f"{field}.host_ip",
                f"{address} is no address that a port can be published on.",
                hint="Give it without its interface, or as the IPv4 address that it stands for.",
            )
        others = taken.setdefault((port.protocol, port.host_port), set())
        # An unspecified address covers every other of its family.
        version = ipaddress.ip_address(address).version
        everywhere = "0.0.0.0" if version == 4 else "::"
        same = {a for a in others if ipaddress.ip_address(a).version == version}
        if address in same or everywhere in same or (same and address == everywhere):
            raise SpecInvalid(
                f"{field}.host_port",
                f"Host port {port.host_port}/{port.protocol} is published twice.",
                hint="Choose another host port.",
            )
        others.add(address)
