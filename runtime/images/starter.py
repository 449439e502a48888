"""The starter image: the host's static busybox as a whole system, so that nobody begins with nothing."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

from runtime.errors import NotFound, error_context
from runtime.images.manifest import architecture

_BUSYBOX = ("/bin/busybox", "/usr/bin/busybox")
_PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
_GROUP = "root:x:0:\nwww-data:x:33:\nnobody:x:65534:\n"
_DIRECTORIES = {"tmp": 0o1777, "root": 0o700, "var": 0o755, "var/tmp": 0o1777, "www": 0o755}
_PLAIN = ("bin", "dev", "etc", "home", "proc", "run", "sys", "usr", "usr/bin", "sbin")
_TIME = 1_700_000_000  # fixed, so that the same busybox makes the same image


def find_busybox() -> Path:
    """Raises NotFound with the way out."""
    for path in _BUSYBOX:
        if os.access(path, os.X_OK):
            return Path(path)
    raise NotFound(
        "This host has no busybox to make the starter image of.",
        hint="Install it: apt-get install busybox-static",
    )


def build_starter(target: Path) -> tuple[bytes, Path]:
    """Write the one layer as a plain tar to `target`. Returns (config JSON without diff_ids, target)."""
    busybox = find_busybox()
    with error_context("starter"):
        # The list of its own commands is something only busybox knows.
        listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
        with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
            for name in _PLAIN:
                _directory(tar, name, 0o755)
            for name, mode in _DIRECTORIES.items():
                _directory(tar, name, mode)
            _file(tar, "bin/busybox", busybox.read_bytes(), 0o755)
            _file(tar, "etc/passwd", _PASSWD.encode(), 0o644)
            _file(tar, "etc/group", _GROUP.encode(), 0o644)
            for command in sorted(set(listed.stdout.split()) - {"busybox"}):
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
    return json.dumps(config).encode(), target


def _directory(tar: tarfile.TarFile, name: str, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = tarfile.DIRTYPE, mode, _TIME
    tar.addfile(info)


def _file(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), mode, _TIME
    tar.addfile(info, io.BytesIO(data))
