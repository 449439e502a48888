"""Devices of the host for a container: nodes to make, rules for the device controller."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from runtime.errors import SpecInvalid
from runtime.kernel import standard
from runtime.model.plan import MountStep
from runtime.model.spec import ContainerSpec, Device

# Below /dev, and no devices: file systems of their own, which a container has its own of.
_OTHERS = frozenset({"pts", "shm", "mqueue", "hugepages", "fd", "console", "ptmx", ".lxc", ".udev"})


def device_steps(spec: ContainerSpec) -> Iterator[MountStep]:
    """The usual nodes and links, all of the host's when privileged, and those asked for.

    Raises SpecInvalid for what is no device.
    """
    for name in standard.DEVICES:
        yield standard.device(f"/dev/{name}", f"/dev/{name}")
    if spec.security.privileged:
        known = {*(f"/dev/{name}" for name in (*standard.DEVICES, *standard.LINKS))}
        for path in _nodes("/dev"):
            if path not in known:
                yield standard.device(path, path)
    for index, device in enumerate(spec.security.devices):
        for source, target in _expanded(device, index):
            yield standard.device(source, target)
    for name in standard.LINKS:
        yield standard.link(name)


def rules_of(spec: ContainerSpec) -> list[str]:
    """The device controller's rules for the devices asked for. Raises SpecInvalid."""
    return [
        _rule(source, device.permissions)
        for index, device in enumerate(spec.security.devices)
        for source, _ in _expanded(device, index)
    ]


def _expanded(device: Device, index: int) -> Iterator[tuple[str, str]]:
    """Source and target of a device, or of each one in a directory of them (`--device /dev/snd`)."""
    field = f"security.devices[{index}].source"
    try:
        mode = os.stat(device.source).st_mode
    except OSError as error:
        raise SpecInvalid(field, f"{device.source}: {error.strerror}.") from error
    if _is_device(mode):
        yield device.source, device.target
        return
    found = list(_nodes(device.source)) if stat.S_ISDIR(mode) else []
    if not found:
        raise SpecInvalid(field, f"{device.source} is not a device.")
    for path in found:
        yield path, device.target.rstrip("/") + path.removeprefix(device.source.rstrip("/"))


def _nodes(directory: str) -> Iterator[str]:
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        if entry.name in _OTHERS:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _nodes(entry.path)
        elif _is_device(entry.stat(follow_symlinks=False).st_mode):
            yield entry.path


def _is_device(mode: int) -> bool:
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def _rule(source: str, permissions: str) -> str:
    info = os.stat(source)
    kind = "c" if stat.S_ISCHR(info.st_mode) else "b"
    return f"{kind} {os.major(info.st_rdev)}:{os.minor(info.st_rdev)} {permissions}"
