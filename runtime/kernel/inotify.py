"""inotify(7), as little of it as following files needs."""

from __future__ import annotations

import ctypes
import os
import struct

from runtime.errors import KernelFailure

IN_MODIFY = 0x2
IN_CLOSE_WRITE = 0x8
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_ONLYDIR = 0x01000000

_libc = ctypes.CDLL(None, use_errno=True)
_HEADER = struct.Struct("iIII")


class Inotify:
    """Watches directories; `fileno()` is readable when something happened. Close it, or use `with`."""

    def __init__(self) -> None:
        self._fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise KernelFailure(
                "inotify_init1",
                ctypes.get_errno(),
                hint="Raise fs.inotify.max_user_instances on the host.",
            )

    def add(self, path: str, mask: int) -> int:
        """Watch `path` for `mask` (IN_*). Returns the watch's number. Raises KernelFailure."""
        watch = int(_libc.inotify_add_watch(self._fd, os.fsencode(path), ctypes.c_uint32(mask)))
        if watch < 0:
            raise KernelFailure("inotify_add_watch", ctypes.get_errno(), path)
        return watch

    def remove(self, watch: int) -> None:
        """Stop watching; a watch that is gone is fine."""
        _libc.inotify_rm_watch(self._fd, ctypes.c_int(watch))

    def fileno(self) -> int:
        return int(self._fd)

    def read(self) -> list[tuple[int, int, str]]:
        """Pending events: (watch, mask, name); [] when there are none."""
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return []
        events = []
        offset = 0
        while offset < len(data):
            watch, mask, _, length = _HEADER.unpack_from(data, offset)
            offset += _HEADER.size
            name = data[offset : offset + length].rstrip(b"\0")
            events.append((watch, mask, os.fsdecode(name)))
            offset += length
        return events

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Inotify:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
