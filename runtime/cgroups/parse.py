"""The formats of control files: flat keyed, nested keyed, and v1's table of block I/O.

Source: Documentation/admin-guide/cgroup-v2.rst ("Interface Files") and cgroup-v1/blkio-controller.rst.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

UNLIMITED_V1 = 1 << 62  # v1 shows "no limit" as the largest multiple of a page


def flat_keyed(text: str) -> dict[str, int]:
    """`key value` lines; lines whose value is no number are left out."""
    result: dict[str, int] = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        try:
            result[key] = int(value)
        except ValueError:
            continue
    return result


def ordered(text: str, names: Iterable[str]) -> list[int]:
    """Values of some lines of a flat-keyed file, without looking at the others; 0 for one that is not there.

    Each name comes with the blank behind it (and the line's end before it, where another name ends alike); they are
    found soonest in the order that the file has.
    """
    result = []
    end = 0
    for name in names:
        start = text.find(name, end)
        if start < 0 and (start := text.find(name)) < 0:
            result.append(0)
            continue
        start += len(name)
        end = text.find("\n", start)
        if end < 0:
            end = len(text)
        result.append(int(text[start:end]))
    return result


def number(text: str) -> int:
    """A counter or limit; 0 for "max", -1 and v1's largest number, which all mean no limit."""
    value = text.strip()
    if value == "max" or value.startswith("-"):
        return 0
    result = int(value)
    return 0 if result >= UNLIMITED_V1 else result


def io_stat(text: str) -> tuple[int, int]:
    """(bytes read, bytes written) over all devices of v2's io.stat."""
    read = written = 0
    for line in text.splitlines():
        for word in line.split()[1:]:
            key, _, value = word.partition("=")
            if key == "rbytes":
                read += int(value)
            elif key == "wbytes":
                written += int(value)
    return read, written


def blkio_bytes(text: str) -> tuple[int, int]:
    """(bytes read, bytes written) over all devices of v1's io_service_bytes."""
    read = written = 0
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[1] == "Read":
            read += int(words[2])
        elif len(words) == 3 and words[1] == "Write":
            written += int(words[2])
    return read, written


def cpu_max(text: str) -> float:
    """Cores of v2's `quota period`; 0 = no limit."""
    quota, _, period = text.strip().partition(" ")
    return 0.0 if quota == "max" else int(quota) / int(period or 100_000)


def pressure(text: str, resource: str) -> dict[str, float]:
    """{"cpu.some.avg10": percent, …} of a PSI file."""
    result = {}
    for line in text.splitlines():
        kind, *words = line.split()
        for word in words:
            key, _, value = word.partition("=")
            if key == "avg10":
                result[f"{resource}.{kind}.avg10"] = float(value)
    return result
