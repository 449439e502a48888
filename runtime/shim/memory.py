"""A fork shares its memory until it writes: what waits in reserve makes its own copies while nobody waits for it."""

from __future__ import annotations

from contextlib import suppress

from runtime.errors import KernelFailure
from runtime.kernel import syscalls


def take_own() -> None:
    """Copy every page that this process could write to: some 7 MB, which go when the process ends.

    A start writes to a good part of them, for whoever looks at a Python object writes to it, and copying these one
    fault at a time took it a millisecond. For processes that do not become a container's monitor or its init.
    """
    with suppress(OSError, KernelFailure):  # Linux before 5.14 copies them when it must
        with open("/proc/self/maps", "rb") as file:
            mappings = [line.split() for line in file.read().splitlines()]
        for mapping in mappings:
            if mapping[1] == b"rw-p":
                start, end = (int(word, 16) for word in mapping[0].split(b"-"))
                syscalls.populate(start, end - start)
