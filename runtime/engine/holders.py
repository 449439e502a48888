"""What keeps a container from being removed, in words: for whoever has to let go of it."""

from __future__ import annotations

import fcntl
import os
import re
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

_GETFLAGS = 0x80086601  # FS_IOC_GETFLAGS (linux/fs.h)
_FIXED = {0x10: "immutable", 0x20: "append-only"}  # FS_IMMUTABLE_FL, FS_APPEND_FL
_MOST = 20_000  # files looked at; this is the way of an error, not of every removal
_SHOWN = 3


def what_holds(error: Exception, bundle: Path, pids: Iterable[int]) -> str:
    """One text: the error, then the processes, mounts and files that can be its cause."""
    found = [_message(error), *_processes(pids), *_mounts(bundle)]
    if isinstance(error, PermissionError) or "EPERM" in str(error):
        found += _fixed(bundle / "upper")
    return " ".join(text if text.endswith(".") else f"{text}." for text in found)


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error)


def _processes(pids: Iterable[int]) -> Iterator[str]:
    """Those still in its control groups: a process that waits in the kernel (state D) cannot be killed."""
    names = []
    for pid in pids:
        with suppress(OSError, ValueError):
            text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
            name, _, rest = text.partition("(")[2].rpartition(")")
            names.append(f"{pid} ({name}, state {rest.split()[0]})")
    if names:
        yield f"Still running: {_some(names)}"


def _mounts(bundle: Path) -> Iterator[str]:
    with suppress(OSError):
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
        targets = [_plain(line.split()[4]) for line in lines]
        below = [target for target in targets if target.startswith(f"{bundle}/")]
        if below:
            yield f"Mounted there: {_some(below)}; unmount it"


def _plain(text: str) -> str:
    """Blanks and the like are octal numbers in mountinfo (proc(5))."""
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), text)


def _fixed(upper: Path) -> Iterator[str]:
    """Files that the container has protected with chattr."""
    looked = 0
    for directory, names, files in os.walk(upper):
        for path in (directory, *(f"{directory}/{name}" for name in files)):
            looked += 1
            if (word := _attribute(path)) is not None:
                yield f"{path} is {word}: chattr -ia takes that away"
                return
        if looked > _MOST:
            return
        names.sort()


def _attribute(path: str) -> str | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        flags = struct.unpack("i", fcntl.ioctl(fd, _GETFLAGS, bytes(4)))[0]
    except OSError:
        return None
    finally:
        os.close(fd)
    return next((word for bit, word in _FIXED.items() if flags & bit), None)


def _some(items: list[str]) -> str:
    more = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
