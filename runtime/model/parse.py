"""Text as people write it (`512m`, `8080:80/udp`, `data:/var/lib:ro`) to values of the specification.

Standard library only and free of the kernel: forms, REST and tools use the same rules as the runtime.
The grammars are those of the `docker run` reference. Every function raises SpecInvalid with the field
it was told, a sentence that quotes the text, and the way out.
"""

from __future__ import annotations

import ipaddress
import math
import posixpath
import re
import signal
from collections.abc import Iterable, Mapping
from typing import get_args

from runtime.errors import SpecInvalid
from runtime.model.spec import (
    Mount,
    PortMapping,
    Propagation,
    Protocol,
    Restart,
    RestartName,
    Ulimit,
)

_BYTES = re.compile(
    r"\s*(-?\d+(?:\.\d+)?)\s*(?:([kmgtpe])(?:i?b)?|b)?\s*", re.ASCII | re.IGNORECASE
)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5, "e": 6}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)", re.ASCII)
_SECONDS = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0
}  # fmt: skip
_PORT_RANGE = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?", re.ASCII)
VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}", re.ASCII)
MAX_BYTES = 2**63 - 1
_ENV_NAME = re.compile(r"[^=\0]+")
_ULIMIT_NAMES = frozenset(
    (
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    )
)


def parse_bytes(value: str | int, field: str = "size") -> int:
    """Bytes of `512`, `512b`, `512k`, `1.5g`, `2GiB`; units are powers of 1024, as Docker's are.

    >>> parse_bytes("512m")
    536870912
    """
    if isinstance(value, bool):
        raise SpecInvalid(field, f"{field}: {value!r} is not a size.")
    if isinstance(value, int):
        return value
    match = _BYTES.fullmatch(value)
    if match is None:
        raise SpecInvalid(
            field,
            f"{field}: {value!r} is not a size.",
            hint="Write a number of bytes, or a number with k, m, g or t: 512m, 1.5g.",
        )
    unit = 1024 ** _POWER[(match[2] or "").lower()]
    # Whole numbers stay exact; a float would round above 2**53.
    size = int(match[1]) * unit if "." not in match[1] else int(float(match[1]) * unit)
    if abs(size) > MAX_BYTES:
        raise SpecInvalid(field, f"{field}: {value!r} is larger than any machine.")
    return size


def parse_duration(value: str | float, field: str = "duration") -> float:
    """Seconds of `90`, `1m30s`, `500ms`, `1.5h`; a bare number is seconds."""
    if isinstance(value, bool):
        raise SpecInvalid(field, f"{field}: {value!r} is not a duration.")
    if isinstance(value, (int, float)):
        seconds = float(value)
    else:
        text = value.strip()
        parts = _DURATION.findall(text)
        if parts and "".join(n + u for n, u in parts) == text:
            seconds = math.fsum(float(n) * _SECONDS[u] for n, u in parts)
        elif re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
            seconds = float(text)
        else:
            seconds = math.nan
    if not math.isfinite(seconds) or seconds < 0:
        raise SpecInvalid(
            field,
            f"{field}: {value!r} is not a duration.",
            hint="Write seconds, or numbers with units: 30s, 1m30s, 500ms.",
        )
    return seconds


def parse_signal(value: str | int, field: str = "signal") -> int:
    """Number of `SIGTERM`, `term`, `15` or `SIGRTMIN+3`."""
    text = str(value).strip().upper()
    if re.fullmatch(r"\d{1,3}", text, re.ASCII):
        if 1 <= int(text) <= signal.SIGRTMAX:
            return int(text)
    else:
        name, plus, offset = text.partition("+")
        name = name if name.startswith("SIG") else f"SIG{name}"
        if name in signal.Signals.__members__:
            base = int(signal.Signals[name])
            if not plus:
                return base
            if name == "SIGRTMIN" and re.fullmatch(r"\d{1,2}", offset, re.ASCII):
                number = base + int(offset)
                if number <= signal.SIGRTMAX:
                    return number
    raise SpecInvalid(
        field,
        f"{field}: {value!r} is not a signal.",
        hint="Use a name such as SIGTERM or a number from 1 to 64.",
    )


# -- ports --------------------------------------------------------------------------------------


def parse_port_spec(text: str, field: str = "ports", *, host_ip: str = "") -> list[PortMapping]:
    """Mappings of `[[ip:][host]:]container[/protocol]`; both sides may be ranges of equal length.

    `host_ip` is the default address ("" = the model's). Without a host port its number is 0: the caller
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
    if host:
        host_first, host_last = _port_range(host, text, field)
        if host_last - host_first != last - first:
            raise SpecInvalid(
                field,
                f"{field}: the two ranges of {text!r} differ in length.",
                hint="Write as many host ports as container ports: 8000-8002:80-82.",
            )
    chosen = address or host_ip
    return [
        PortMapping(
            container_port=port,
            host_port=host_first + port - first if host else 0,
            protocol=protocol,  # type: ignore[arg-type] # checked against the Literal above
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


def parse_address(text: str, field: str = "address") -> str:
    """An IPv4 or IPv6 address in its shortest form."""
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        raise SpecInvalid(field, f"{field}: {text!r} is not an IP address.") from None


# -- mounts -------------------------------------------------------------------------------------


def parse_volume_spec(text: str, field: str = "volumes") -> Mount:
    """The mount of `[source:]target[:options]`, as `docker run -v` reads it.

    A source that starts with "/" is a bind, a name is a volume, none is an anonymous volume (its name
    is the caller's to make). Options: ro, rw, nocopy, a propagation; z and Z are accepted and mean
    nothing without SELinux.
    """
    parts = text.split(":")
    if len(parts) > 3 or not all(parts[:2]):
        raise SpecInvalid(
            field,
            f"{field}: {text!r} is not a volume.",
            hint="Write name:/target, /host/path:/target, and :ro for read-only.",
        )
    source, target, options = ("", parts[0], "") if len(parts) == 1 else (*parts, "")[:3]
    if not target.startswith("/"):
        raise SpecInvalid(
            field,
            f"{field}: the target {target!r} of {text!r} is not an absolute path.",
            hint="Start it with /.",
        )
    flags = [o for o in options.split(",") if o]
    propagation: Propagation = "rprivate"
    for flag in flags:
        if flag in get_args(Propagation):
            propagation = flag  # type: ignore[assignment] # it is one of the Literal's
        elif flag not in {"ro", "rw", "nocopy", "z", "Z", "cached", "delegated", "consistent"}:
            raise SpecInvalid(
                field,
                f"{field}: {flag!r} in {text!r} is not an option.",
                hint="Known: ro, rw, nocopy, rprivate, rslave, rshared.",
            )
    return Mount(
        type="bind" if source.startswith("/") else "volume",
        target=posixpath.normpath(target) if ".." not in target.split("/") else target,
        source=_mount_source(source, text, field),
        read_only="ro" in flags,
        nocopy="nocopy" in flags,
        propagation=propagation,
        anonymous=not source,
    )


def _mount_source(source: str, text: str, field: str) -> str:
    if not source or source.startswith("/") or VOLUME_NAME.fullmatch(source):
        return source
    hint = "Use letters, digits, dots, dashes and underscores for a volume, or an absolute path."
    if source.startswith((".", "~")):
        hint = "Relative paths have no meaning on the host: write the absolute path."
    raise SpecInvalid(
        field, f"{field}: {source!r} in {text!r} is neither a volume's name nor a path.", hint=hint
    )


_MOUNT_KEYS = {
    "source": "source", "src": "source", "target": "target", "dst": "target",
    "destination": "target", "readonly": "readonly", "ro": "readonly", "volume-nocopy": "nocopy",
    "volume-subpath": "subpath", "bind-propagation": "propagation", "tmpfs-size": "size",
    "tmpfs-mode": "mode",
}  # fmt: skip


def parse_mount(text: str, field: str = "mounts") -> Mount:
    """The mount of `type=bind,source=/a,target=/b,readonly`, as `docker run --mount` reads it."""
    values: dict[str, str] = {}
    kind = "volume"
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if key.strip() == "type":
            kind = value.strip()
            continue
        known = _MOUNT_KEYS.get(key.strip())
        if known is None:
            raise SpecInvalid(
                field,
                f"{field}: {key!r} in {text!r} is not a known key.",
                hint=f"Known: type, {', '.join(_MOUNT_KEYS)}.",
            )
        values[known] = value if equals else "true"
    if kind not in ("bind", "volume", "tmpfs"):
        raise SpecInvalid(
            field, f"{field}: {kind!r} is not a type of mount.", hint="Use bind, volume or tmpfs."
        )
    target, source = values.get("target", ""), values.get("source", "")
    if not target.startswith("/"):
        raise SpecInvalid(
            field, f"{field}: {text!r} needs an absolute target.", hint="Add target=/path."
        )
    propagation = values.get("propagation", "rprivate")
    if propagation not in get_args(Propagation):
        raise SpecInvalid(field, f"{field}: {propagation!r} is not a propagation.")
    mode = values.get("mode", "1777")
    if not re.fullmatch(r"[0-7]{1,4}", mode, re.ASCII):
        raise SpecInvalid(field, f"{field}: {mode!r} is not an octal mode.")
    return Mount(
        type=kind,  # type: ignore[arg-type] # checked against the three above
        target=target,
        source=source,
        read_only=values.get("readonly", "false").lower() in ("true", "1"),
        nocopy=values.get("nocopy", "false").lower() in ("true", "1"),
        subpath=values.get("subpath", ""),
        propagation=propagation,  # type: ignore[arg-type] # checked above
        tmpfs_size=parse_bytes(values["size"], field) if "size" in values else None,
        tmpfs_mode=int(mode, 8),
        anonymous=kind == "volume" and not source,
    )


# -- the rest -----------------------------------------------------------------------------------


def parse_restart(text: str, field: str = "restart") -> Restart:
    """The policy of `no`, `always`, `unless-stopped`, `on-failure` or `on-failure:5`."""
    name, colon, count = text.strip().partition(":")
    if name not in get_args(RestartName):
        raise SpecInvalid(
            field,
            f"{field}: {text!r} is not a restart policy.",
            hint=f"Use {', '.join(get_args(RestartName))} or on-failure:5.",
        )
    if not colon:
        return Restart(name=name)  # type: ignore[arg-type] # checked against the Literal above
    if name != "on-failure" or not re.fullmatch(r"\d{1,6}", count, re.ASCII):
        raise SpecInvalid(
            field, f"{field}: only on-failure takes a number of retries: on-failure:5."
        )
    return Restart(name="on-failure", max_retries=int(count))


def parse_ulimit(text: str, field: str = "ulimits") -> Ulimit:
    """The limit of `nofile=1024:2048` or `nofile=1024` (soft and hard alike); -1 is unlimited."""
    match = re.fullmatch(r"([a-z]+)=(-?\d+)(?::(-?\d+))?", text.strip(), re.ASCII)
    if match is None or match[1] not in _ULIMIT_NAMES:
        raise SpecInvalid(
            field,
            f"{field}: {text!r} is not a ulimit.",
            hint=f"Write name=soft:hard with one of {', '.join(sorted(_ULIMIT_NAMES))}.",
        )
    soft = int(match[2])
    return Ulimit(name=match[1], soft=soft, hard=int(match[3]) if match[3] else soft)


def parse_env(
    values: str | Iterable[str] | Mapping[str, object], field: str = "env"
) -> tuple[str, ...]:
    """`NAME=value` texts of a list, of a mapping, or of lines (a text); the last of a name wins."""
    if isinstance(values, Mapping):
        lines = [f"{name}={value}" for name, value in values.items()]
    elif isinstance(values, str):
        stripped = (line.strip() for line in values.splitlines())
        lines = [line for line in stripped if line and not line.startswith("#")]
    else:
        lines = list(values)
    result: dict[str, str] = {}
    for index, line in enumerate(lines):
        name, equals, value = line.partition("=")
        if not equals or not _ENV_NAME.fullmatch(name) or "\0" in value:
            raise SpecInvalid(
                f"{field}[{index}]",
                f"{field}[{index}]: {line!r} is not a variable.",
                hint="Write NAME=value.",
            )
        result[name] = value
    return tuple(f"{name}={value}" for name, value in result.items())


def parse_cpuset(text: str, field: str = "cpuset") -> frozenset[int]:
    """The numbers of a list such as `0-2,4`."""
    numbers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,5})(?:-(\d{1,5}))?\s*", part, re.ASCII)
        first = int(match[1]) if match else 0
        last = int(match[2] or first) if match else -1
        if last < first:
            raise SpecInvalid(
                field, f"{field}: {text!r} is not a list of numbers.", hint="Write 0-2,4."
            )
        numbers.update(range(first, last + 1))
    return frozenset(numbers)
