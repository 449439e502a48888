"""Reading an image's merged tree straight from its layers, without mounting anything on the host.

A new named volume starts with what the image has at its target. The layers hold overlayfs' own marks:
a character device 0:0 hides a name (whiteout), the xattr `trusted.overlay.opaque` hides what lies below
a directory (Documentation/filesystems/overlayfs.rst).
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from runtime.errors import SpecInvalid

_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
_MAX_LINKS = 40


class MergedTree:
    """The union of layer directories, bottom first. Paths inside are relative, without ".."."""

    def __init__(self, layers: Sequence[Path]) -> None:
        self._layers = [str(p) for p in reversed(layers)]

    def resolve(self, path: str) -> str | None:
        """Follow links in `path` as if the tree were the root; None when it does not exist."""
        done: list[str] = []
        ahead = [p for p in path.split("/") if p not in ("", ".")][::-1]
        links = 0
        while ahead:
            name = ahead.pop()
            if name == "..":
                done = done[:-1]
                continue
            found = self.find("/".join([*done, name]))
            if found is None:
                return None
            if os.path.islink(found):
                links += 1
                if links > _MAX_LINKS:
                    raise SpecInvalid("mounts", f"{path}: too many symbolic links.")
                target = os.readlink(found)
                if target.startswith("/"):
                    done = []
                ahead += [p for p in target.split("/") if p not in ("", ".")][::-1]
            else:
                done.append(name)
        return "/".join(done)

    def find(self, path: str) -> str | None:
        """Host path of the uppermost layer's object at `path`, whose parents are no links."""
        found = self._all(path)
        return found[0] if found else None

    def names(self, path: str) -> list[str]:
        """Names in a merged directory."""
        result: set[str] = set()
        for directory in self._all(path):
            if os.path.isdir(directory) and not os.path.islink(directory):
                result.update(os.listdir(directory))
        return sorted(n for n in result if self.find(f"{path}/{n}".lstrip("/")) is not None)

    def _all(self, path: str) -> list[str]:
        """Every layer's object that shows through at `path`, uppermost first."""
        result: list[str] = []
        for layer in self._layers:
            kind = _look(layer, path)
            if kind == "absent":
                continue
            if kind == "hidden":
                break
            full = f"{layer}/{path}" if path else layer
            is_directory = os.path.isdir(full) and not os.path.islink(full)
            if result and not is_directory:
                break  # a file below a directory does not show through
            result.append(full)
            if not is_directory or kind == "opaque":
                break
        return result


def _look(layer: str, path: str) -> str:
    """What one layer says about `path`: "absent", "here", "opaque" (nothing below shows), "hidden"."""
    current = layer
    opaque = False
    for part in path.split("/") if path else []:
        current = f"{current}/{part}"
        try:
            info = os.lstat(current)
        except FileNotFoundError:
            # An opaque or replaced parent hides the lower layers' object as a whiteout would.
            return "hidden" if opaque else "absent"
        except NotADirectoryError:
            return "hidden"
        if stat.S_ISCHR(info.st_mode) and info.st_rdev == 0:
            return "hidden"
        opaque = opaque or (stat.S_ISDIR(info.st_mode) and _is_opaque(current))
    return "opaque" if opaque else "here"


def _is_opaque(path: str) -> bool:
    for name in _OPAQUE:
        try:
            if os.getxattr(path, name, follow_symlinks=False) == b"y":
                return True
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.ENOTSUP):
                raise
    return False


def copy_tree(tree: MergedTree, source: str, target: Path) -> None:
    """Copy the merged directory at `source` into the existing, empty `target`, owners and all.

    Raises OSError. Sockets and devices are left out: a volume is data.
    """
    found = tree.find(source)
    if found is None:
        return
    for name in tree.names(source):
        path = f"{source}/{name}".lstrip("/")
        origin = tree.find(path)
        if origin is None:
            continue
        copy = target / name
        mode = os.lstat(origin).st_mode
        if stat.S_ISDIR(mode):
            copy.mkdir()
            copy_tree(tree, path, copy)
        elif stat.S_ISLNK(mode):
            os.symlink(os.readlink(origin), copy)
            _copy_metadata(origin, copy)
        elif stat.S_ISREG(mode):
            shutil.copyfile(origin, copy, follow_symlinks=False)
            _copy_metadata(origin, copy)
        elif stat.S_ISFIFO(mode):
            os.mkfifo(copy)
            _copy_metadata(origin, copy)
    # Last: writing into the directory would touch its times again.
    _copy_metadata(found, target)


def _copy_metadata(origin: str, copy: Path) -> None:
    info = os.lstat(origin)
    os.chown(copy, info.st_uid, info.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(info.st_mode):
        os.chmod(copy, stat.S_IMODE(info.st_mode))
    for name in os.listxattr(origin, follow_symlinks=False):
        if name.startswith(("trusted.overlay.", "user.overlay.")):
            continue
        try:
            value = os.getxattr(origin, name, follow_symlinks=False)
            os.setxattr(copy, name, value, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM):
                raise
    os.utime(copy, ns=(info.st_atime_ns, info.st_mtime_ns), follow_symlinks=False)
