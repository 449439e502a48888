"""Devices, labels, hosts and other pairs of text to values, as `docker run` reads them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from runtime.errors import SpecInvalid
from runtime.model.parse import parse_bytes
from runtime.model.spec import Device

Pairs = Mapping[str, str] | Iterable[str] | str


def parse_device(text: str, field: str = "devices") -> Device:
    """The device of `/dev/fuse`, `/dev/sda:/dev/xvda` or `/dev/sda:/dev/xvda:r`.

    >>> parse_device("/dev/fuse:rw")
    Device(source='/dev/fuse', target='/dev/fuse', permissions='rw')
    """
    parts = text.strip().split(":")
    permissions = "rwm"
    if len(parts) > 1 and re.fullmatch(r"[rwm]{1,3}", parts[-1], re.ASCII):
        permissions = parts.pop()
    if not 1 <= len(parts) <= 2 or not all(part.startswith("/") for part in parts):
        raise SpecInvalid(
            field,
            f"{field}: {text!r} is not a device.",
            hint="Write /dev/fuse, or /dev/host:/dev/inside:rwm.",
        )
    return Device(source=parts[0], target=parts[-1], permissions=permissions)


def parse_device_values(
    values: Mapping[str, int | str] | Iterable[str] | str, field: str, *, sizes: bool
) -> dict[str, int]:
    """Numbers by device of `/dev/sda:10m` texts (lines of one text, a list) or of a mapping.

    `sizes` allows units. Raises SpecInvalid with the field.
    """
    if isinstance(values, Mapping):
        items = [(str(path), value) for path, value in values.items()]
    else:
        items = []
        for line in _lines(values):
            path, colon, amount = line.rpartition(":")
            if not colon or not path:
                raise SpecInvalid(
                    field, f"{field}: {line!r} is not a limit of a device.",
                    hint=f"Write /dev/sda:{'10m' if sizes else '500'}.",
                )  # fmt: skip
            items.append((path.strip(), amount))
    return {path: _number(value, field, sizes=sizes) for path, value in items}


def _number(value: int | str, field: str, *, sizes: bool) -> int:
    if sizes:
        return parse_bytes(value, field)
    try:
        return int(value)
    except ValueError:
        raise SpecInvalid(
            field, f"{field}: {value!r} is not a whole number.", hint="Write /dev/sda:500."
        ) from None


def parse_hugetlb(
    values: Mapping[str, int | str] | Iterable[str] | str, field: str
) -> dict[str, int]:
    """Bytes by page size of `2MB=64m`, or of a mapping."""
    pairs = parse_pairs(values, field) if not isinstance(values, Mapping) else values
    return {str(size): parse_bytes(value, field) for size, value in pairs.items()}


def parse_pairs(values: Pairs, field: str, *, bare: bool = False) -> dict[str, str]:
    """`name=value` texts of a list, of lines (a text; # begins a comment) or of a mapping.

    With `bare` a name alone stands for an empty value, as in `docker run --label`.
    """
    if isinstance(values, Mapping):
        return {str(name): str(value) for name, value in values.items()}
    result: dict[str, str] = {}
    for line in _lines(values):
        name, equals, value = line.partition("=")
        if not name.strip() or not (equals or bare):
            raise SpecInvalid(
                field, f"{field}: {line!r} is not name=value.", hint="Write name=value."
            )
        result[name.strip()] = value.strip() if isinstance(values, str) else value
    return result


def parse_hosts(values: Pairs, field: str = "extra_hosts") -> dict[str, str]:
    """Addresses by name of `db:10.0.0.5` or `db=10.0.0.5` texts, or of a mapping."""
    if isinstance(values, Mapping):
        return {str(name): str(value) for name, value in values.items()}
    result: dict[str, str] = {}
    for line in _lines(values):
        # The first of both: an IPv6 address has colons of its own.
        match = re.fullmatch(r"([^:=\s]+)[:=]\s*(\S+)", line)
        if match is None:
            raise SpecInvalid(
                field, f"{field}: {line!r} is not a host.", hint="Write name:address."
            )
        result[match[1]] = match[2].strip("[]")
    return result


_NETWORK_KEYS = {
    "name": "name", "ip": "ip", "ip6": "ip6", "mac-address": "mac_address", "alias": "aliases",
    "link-local-ip": "link_local_ips",
}  # fmt: skip
_MANY = ("aliases", "link_local_ips")


def parse_network(text: str, field: str = "networks") -> dict[str, str | list[str]]:
    """The words of `name=shop,ip=172.30.0.9,alias=db,alias=sql`, as `docker run --network` reads them; a name alone
    is the name.

    >>> parse_network("name=shop,alias=db")
    {'name': 'shop', 'aliases': ['db']}
    """
    if "=" not in text:
        return {"name": text.strip()}
    result: dict[str, str | list[str]] = {}
    for part in text.split(","):
        key, equals, value = (each.strip() for each in part.partition("="))
        known = _NETWORK_KEYS.get(key)
        if known is None or not equals or not value:
            raise SpecInvalid(
                field, f"{field}: {part!r} in {text!r} makes no sense.",
                hint=f"Write name=…, and any of {', '.join(k for k in _NETWORK_KEYS if k != 'name')}.",
            )  # fmt: skip
        held = result.setdefault(known, []) if known in _MANY else None
        if isinstance(held, list):
            held.append(value)
        else:
            result[known] = value
    if "name" not in result:
        raise SpecInvalid(field, f"{field}: {text!r} names no network.", hint="Add name=….")
    return result


def _lines(values: Iterable[str] | str) -> list[str]:
    if not isinstance(values, str):
        return list(values)
    stripped = (line.strip() for line in values.splitlines())
    return [line for line in stripped if line and not line.startswith("#")]
