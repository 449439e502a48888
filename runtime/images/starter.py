"""The starter image: the host's static busybox as a whole system, so that nobody begins with nothing."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from runtime.errors import NotFound
from runtime.images.manifest import architecture

_BUSYBOX = ("/bin/busybox", "/usr/bin/busybox")
_PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
_GROUP = "root:x:0:\nwww-data:x:33:\nnobody:x:65534:\n"
_DIRECTORIES = {"tmp": 0o1777, "root": 0o700, "var": 0o755, "var/tmp": 0o1777, "www": 0o755}
_PLAIN = ("bin", "dev", "etc", "home", "proc", "run", "sys", "usr", "usr/bin", "sbin")
_TIME = 1_700_000_000  # fixed, so that the same busybox makes the same image
_PT_INTERP = 3  # elf.h: the program header that names the dynamic linker


def find_busybox() -> Path:
    """Raises NotFound with the way out."""
    for path in map(Path, _BUSYBOX):
        if os.access(path, os.X_OK) and is_static(path):
            return path
    raise NotFound(
        "This host has no static busybox to make the starter image of.",
        hint="Install it: apt-get install busybox-static",
    )


def is_static(path: Path) -> bool:
    """Whether a 64-bit ELF program needs no dynamic linker, which the image does not have (elf(5))."""
    with path.open("rb") as file:
        header = file.read(64)
        if header[:5] != b"\x7fELF\x02":
            return False
        (offset,) = struct.unpack_from("<Q", header, 0x20)
        size, count = struct.unpack_from("<HH", header, 0x36)
        file.seek(offset)
        table = file.read(size * count)
    return all(
        struct.unpack_from("<I", table, at)[0] != _PT_INTERP
        for at in range(0, len(table) - 3, size)
    )


def build_starter(target: Path) -> tuple[dict[str, Any], Path]:
    """Write the one layer as a plain tar to `target`. Returns (config without diff_ids, target).

    Raises NotFound, OSError.
    """
    busybox = find_busybox()
    # The list of its own commands is something only busybox knows.
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=False)
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in _PLAIN:
            _directory(tar, name, 0o755)
        for name, mode in _DIRECTORIES.items():
            _directory(tar, name, mode)
        _file(tar, "bin/busybox", busybox.read_bytes(), 0o755)
        _file(tar, "etc/passwd", _PASSWD.encode(), 0o644)
        _file(tar, "etc/group", _GROUP.encode(), 0o644)
        for command in sorted({*listed.stdout.split(), "sh"} - {"busybox"}):
            link = tarfile.TarInfo(f"bin/{command}")
            link.type, link.linkname, link.mtime = tarfile.SYMTYPE, "busybox", _TIME
            tar.addfile(link)
    config = {
        "architecture": architecture(),
        "os": "linux",
        "created": "2023-11-14T22:13:20Z",
        "author": "Slipway",
        "config": {
            "Cmd": ["sh"],
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Labels": {"org.opencontainers.image.title": "Slipway starter (busybox)"},
        },
        "history": [{"created_by": "slipway: busybox of this host"}],
    }
    return config, target


def _directory(tar: tarfile.TarFile, name: str, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = tarfile.DIRTYPE, mode, _TIME
    tar.addfile(info)


def _file(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), mode, _TIME
    tar.addfile(info, io.BytesIO(data))
