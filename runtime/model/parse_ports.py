"""`8080:80/udp` and its kin to port mappings, as `docker run --publish` reads them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import get_args

from runtime.errors import SpecInvalid
from runtime.model.parse import parse_address
from runtime.model.spec import PortMapping, Protocol

_PORT_RANGE = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class PortChoice(PortMapping):
    """Any one host port from `host_port` to `host_last`; a free one is picked before the spec is made."""

    host_last: int = 0


def parse_port_spec(text: str, field: str = "ports", *, host_ip: str = "") -> list[PortMapping]:
    """Mappings of `[[ip:][host]:]container[/protocol]`; both sides may be ranges of equal length.

    A range of host ports for one container port is a PortChoice. `host_ip` is the default address ("" = the model's). Without a host port its number is 0: the caller
    picks a free one before the spec is made. An IPv6 address stands in brackets: `[::1]:8080:80`.

    >>> [m.host_port for m in parse_port_spec("8080-8081:80-81/udp")]
    [8080, 8081]
    """
    rest, slash, protocol = text.strip().partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in get_args(Protocol):
        raise SpecInvalid(
            field, f"{field}: {text!r} names no known protocol.", hint="Use tcp, udp or sctp."
        )
    address, host, container = _port_parts(rest, text, field)
    if address:
        address = parse_address(address, field)
    first, last = _port_range(container, text, field)
    host_first, host_last = _port_range(host, text, field) if host else (0, 0)
    make: Callable[..., PortMapping] = PortMapping
    if host and first == last and host_first < host_last:
        make = partial(PortChoice, host_last=host_last)
    elif host and host_last - host_first != last - first:
        raise SpecInvalid(
            field,
            f"{field}: the two ranges of {text!r} differ in length.",
            hint="Write as many host ports as container ports: 8000-8002:80-82.",
        )
    chosen = address or host_ip
    return [
        make(
            container_port=port,
            host_port=host_first + port - first if host else 0,
            protocol=protocol,
            **({"host_ip": chosen} if chosen else {}),
        )
        for port in range(first, last + 1)
    ]


def parse_ports(
    texts: str | Iterable[str], field: str = "ports", *, host_ip: str = ""
) -> tuple[PortMapping, ...]:
    """The mappings of one text or of several; the field of an error carries the index of its text."""
    if isinstance(texts, str):
        return tuple(parse_port_spec(texts, field, host_ip=host_ip))
    return tuple(
        mapping
        for index, text in enumerate(texts)
        for mapping in parse_port_spec(text, f"{field}[{index}]", host_ip=host_ip)
    )


def _port_parts(rest: str, text: str, field: str) -> tuple[str, str, str]:
    """(address, host port, container port), as text; the first two may be empty."""
    if rest.startswith("["):
        address, bracket, tail = rest[1:].partition("]")
        if not bracket or not tail.startswith(":"):
            raise _bad_port(text, field)
        host, colon, container = tail[1:].partition(":")
        return (address, host, container) if colon else (address, "", host)
    parts = rest.split(":")
    if len(parts) > 3:
        raise _bad_port(text, field)
    address, host, container = [""] * (3 - len(parts)) + parts
    return address, host, container


def _port_range(part: str, text: str, field: str) -> tuple[int, int]:
    match = _PORT_RANGE.fullmatch(part.strip())
    if match is None:
        raise _bad_port(text, field)
    first, last = int(match[1]), int(match[2] or match[1])
    if not 1 <= first <= last <= 65535:
        raise SpecInvalid(
            field,
            f"{field}: {text!r} holds a port outside 1 to 65535 or a range that runs backwards.",
        )
    return first, last


def _bad_port(text: str, field: str) -> SpecInvalid:
    return SpecInvalid(
        field,
        f"{field}: {text!r} is not a port mapping.",
        hint="Write host:container, such as 8080:80, 127.0.0.1:8080:80 or 53:53/udp.",
    )
