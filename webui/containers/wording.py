"""Errors in the words of who asked: fields of the request, not of the spec that was made of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.errors import EngineError, SpecInvalid
from runtime.model.parse_ports import parse_port_spec
from webui.containers.requests import ContainerRequest

# Where the spec's names differ from the request's.
_NAMES = {
    "process.args": "command",
    "process.env": "env",
    "process.cwd": "working_dir",
    "process.user": "user",
    "process.groups": "groups",
    "process.ulimits": "ulimits",
    "process": "command",
    "namespaces.cgroup": "cgroupns",
    "namespaces": "",
    "exposed": "expose",
    "endpoints[0].network_id": "network",
    "endpoints[0].address": "ip",
    "endpoints[0].address6": "ip6",
    "endpoints[0].mac_address": "mac_address",
    "endpoints[0].aliases": "network_aliases",
    "endpoints[0].link_local": "link_local_ips",
    "endpoints": "network",
    "dns.servers": "dns",
    "dns.search": "dns_search",
    "dns.options": "dns_options",
    "dns.extra_hosts": "extra_hosts",
    "security": "",
}
_FURTHER = re.compile(r"endpoints\[(\d+)\](.*)")
_INDEXED = re.compile(r"(ports|mounts)\[(\d+)\](.*)")


@contextmanager
def request_words(request: ContainerRequest) -> Iterator[None]:
    """Rename the field of an error that leaves the block, also where its message begins with it."""
    try:
        yield
    except EngineError as error:
        field = str(error.extra.get("field", ""))
        renamed = request_field(field, request)
        if renamed == field:
            raise
        error.extra["field"] = renamed
        if isinstance(error, SpecInvalid):
            error.field = renamed
        if error.message.startswith(field):
            error.message = renamed + error.message.removeprefix(field)
            error.args = (error.message,)
        raise


def request_field(field: str, request: ContainerRequest) -> str:
    """The request's field that a field of the spec came from.

    >>> request_field("process.cwd", ContainerRequest(image="nginx"))
    'working_dir'
    """
    if found := _INDEXED.fullmatch(field):
        name, index, rest = found[1], int(found[2]), found[3]
        return _port(index, request) if name == "ports" else _mount(index, rest, request)
    if (found := _FURTHER.fullmatch(field)) and int(found[1]) > 0:
        inner = _NAMES.get(f"endpoints[0]{found[2]}", "").replace("network_aliases", "aliases")
        named = f".{inner}" if inner not in ("", "network") else ""
        return f"networks[{int(found[1]) - 1}]{named}"
    for inside, outside in _NAMES.items():
        if field == inside or field.startswith((f"{inside}.", f"{inside}[")):
            return f"{outside}{field.removeprefix(inside)}".removeprefix(".")
    return field


def _port(index: int, request: ContainerRequest) -> str:
    """One text may stand for a range of ports."""
    try:
        counts = [len(parse_port_spec(text)) for text in request.ports]
    except SpecInvalid:
        return f"ports[{index}]"  # it is about a text, then
    for position, count in enumerate(counts):
        if index < count:
            return f"ports[{position}]"
        index -= count
    return "publish_all"


def _mount(index: int, rest: str, request: ContainerRequest) -> str:
    if index < len(request.mounts):
        return f"mounts[{index}]{rest}"
    index -= len(request.mounts)
    for name in ("volumes", "tmpfs"):
        texts: list[str] = getattr(request, name)
        if index < len(texts):
            return f"{name}[{index}]"
        index -= len(texts)
    if request.volumes_from:
        return "volumes_from[0]"
    return "image"  # a directory that the image declares
