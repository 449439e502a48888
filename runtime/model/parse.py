"""Text as people write it (`512m`, `1m30s`, `on-failure:5`) to values of the specification.

Ports and mounts have modules of their own beside this one. Standard library only and free of the kernel: forms, REST and tools use the same rules as the runtime.
The grammars are those of the `docker run` reference. Every function raises SpecInvalid with the field
it was told, a sentence that quotes the text, and the way out.
"""

from __future__ import annotations

import ipaddress
import math
import re
import signal
from collections.abc import Iterable, Mapping
from typing import get_args

from runtime.errors import SpecInvalid
from runtime.model.spec import Restart, RestartName, Ulimit

_BYTES = re.compile(
    r"\s*(-?\d+(?:\.\d+)?)\s*(?:([kmgtpe])(?:i?b)?|b)?\s*", re.ASCII | re.IGNORECASE
)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5, "e": 6}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)", re.ASCII)
_SECONDS = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0
}  # fmt: skip
VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}", re.ASCII)
MAX_BYTES = 2**63 - 1
_ENV_NAME = re.compile(r"[^=\0]+")
_ULIMIT_NAMES = frozenset(
    ("core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc",
     "rss", "rtprio", "rttime", "sigpending", "stack")
)  # fmt: skip


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


def parse_address(text: str, field: str = "address") -> str:
    """An IPv4 or IPv6 address in its shortest form."""
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        hint = "Write it as 172.30.0.5 or fd00::5."
        raise SpecInvalid(field, f"{field}: {text!r} is not an IP address.", hint=hint) from None


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
