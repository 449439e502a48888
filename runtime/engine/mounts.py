"""The mounts of a container as a list of steps: made here as data, executed by its init.

Order and options are the OCI runtime spec's default file systems and Docker's; the user's mounts follow,
parents before children.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from runtime.engine.devices import device_steps
from runtime.engine.volumes import VolumeManager
from runtime.errors import SpecInvalid
from runtime.kernel import standard
from runtime.kernel.constants import (
    MS_NOATIME,
    MS_NODEV,
    MS_NODIRATIME,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    MS_RELATIME,
    MS_STRICTATIME,
    MS_SYNCHRONOUS,
)
from runtime.model.plan import MountStep
from runtime.model.spec import ContainerSpec, Mount
from runtime.store.paths import Config

ETC_FILES = {"/etc/hosts": "hosts", "/etc/hostname": "hostname", "/etc/resolv.conf": "resolv.conf"}

# What the options of a tmpfs add to its flags, or take away from them.
_TMPFS_ON = {
    "noexec": MS_NOEXEC, "nosuid": MS_NOSUID, "nodev": MS_NODEV, "sync": MS_SYNCHRONOUS,
    "noatime": MS_NOATIME, "nodiratime": MS_NODIRATIME, "relatime": MS_RELATIME,
    "strictatime": MS_STRICTATIME,
}  # fmt: skip
_TMPFS_OFF = {
    "exec": MS_NOEXEC, "suid": MS_NOSUID, "dev": MS_NODEV, "async": MS_SYNCHRONOUS,
    "atime": MS_NOATIME, "diratime": MS_NODIRATIME,
}  # fmt: skip


def mount_steps(
    spec: ContainerSpec,
    config: Config,
    volumes: VolumeManager,
    cgroup: dict[str, Any],
    *,
    ipc_pid: int = 0,
) -> list[MountStep]:
    """Every step after the root file system itself. Raises SpecInvalid for a source that is not there.

    `ipc_pid` is the process whose IPC namespace, and with it /dev/shm, the container shares.
    """
    own = {posixpath.normpath(m.target) for m in spec.mounts}
    steps = [s for s in _kernel_steps(spec, cgroup, ipc_pid) if s["target"] not in own]
    run = config.container_run(spec.id)
    for target, name in ETC_FILES.items():
        if target not in own:
            steps.append(bind(str(run / name), target, make="file", ids="kept"))
    return steps + user_steps(spec, config, volumes)


def user_steps(spec: ContainerSpec, config: Config, volumes: VolumeManager) -> list[MountStep]:
    """Those that the specification names, parents first. Raises SpecInvalid as `mount_steps`."""
    ordered = sorted(
        enumerate(spec.mounts), key=lambda item: posixpath.normpath(item[1].target).count("/")
    )
    return [_user_step(index, mount, config, volumes) for index, mount in ordered]


def bind(
    source: str, target: str, *, make: str = "dir", read_only: bool = False, ids: str = ""
) -> MountStep:
    step: MountStep = {
        "kind": "bind",
        "source": source,
        "target": target,
        "make": make,  # type: ignore[typeddict-item] # "dir" or "file" by the callers here
        "recursive": make == "dir",
        "flags": MS_RDONLY if read_only else 0,
        "propagation": "rprivate",
    }
    if ids:
        step["ids"] = ids  # type: ignore[typeddict-item] # as `make`
    return step


def _kernel_steps(spec: ContainerSpec, cgroup: dict[str, Any], ipc_pid: int) -> Iterable[MountStep]:
    privileged = spec.security.privileged
    protect = 0 if privileged else MS_RDONLY
    yield standard.proc()
    yield standard.dev()
    yield standard.pts()
    if spec.namespaces.ipc == "":
        yield standard.shm(spec.shm_size)
    elif spec.namespaces.ipc != "none":
        shared: MountStep = {**bind("/dev/shm", "/dev/shm"), "plain": True}
        yield {**shared, "of_pid": ipc_pid} if ipc_pid else shared
    if spec.namespaces.ipc != "none":
        yield standard.mqueue()
    yield standard.sys(protect)
    yield from _cgroup_steps(cgroup, protect)
    yield from device_steps(spec)


def _cgroup_steps(cgroup: dict[str, Any], protect: int) -> Iterable[MountStep]:
    """The container sees its own groups, read-only, where programs look for their limits."""
    make, quiet, place = standard.kernel_filesystem, standard.QUIET, "/sys/fs/cgroup"
    if cgroup["version"] == "v2":
        yield {**make("cgroup2", place, quiet | protect), "optional": True}
        return
    yield make("tmpfs", place, quiet, "mode=755,size=64k")
    for controller, directory in cgroup["paths"].items():
        yield {
            **bind(directory, f"{place}/{controller}"),
            "flags": quiet | protect,
            "recursive": False,
            "optional": True,
            "plain": True,
        }
    if protect:
        # These too: then init in reserve need not give each of them its own.
        all_alike: MountStep = {"kind": "attributes", "target": place, "flags": quiet | protect}
        yield {**all_alike, "recursive": True, "plain": True}


def _user_step(index: int, mount: Mount, config: Config, volumes: VolumeManager) -> MountStep:
    if mount.type == "tmpfs":
        return _tmpfs_step(mount)
    if mount.type == "volume":
        path = str(volumes.path(mount.source))
        step = bind(path, mount.target, read_only=mount.read_only, ids="kept")
        if mount.subpath:
            step["subpath"] = mount.subpath
        return step
    source = check_bind(mount, config, f"mounts[{index}].source")
    step = bind(
        str(source),
        mount.target,
        make="dir" if source.is_dir() else "file",
        read_only=mount.read_only,
        ids="mapped",
    )
    step["propagation"] = mount.propagation
    if mount.recursive == "disabled":
        step["recursive"] = False
    elif mount.recursive == "writable":
        step["recursive"], step["submounts"] = False, True
    return step


def _tmpfs_step(mount: Mount) -> MountStep:
    data = [f"mode={mount.tmpfs_mode:o}"]
    if mount.tmpfs_size is not None:
        data.append(f"size={mount.tmpfs_size}")
    flags = standard.QUIET | (MS_RDONLY if mount.read_only else 0)
    for option in mount.tmpfs_options:
        if "=" in option:
            data.append(option)
        flags = (flags | _TMPFS_ON.get(option, 0)) & ~_TMPFS_OFF.get(option, 0)
    return standard.filesystem("tmpfs", mount.target, flags, ",".join(data))


def check_bind(mount: Mount, config: Config, field: str) -> Path:
    """The source with its links resolved. Raises SpecInvalid for what cannot or must not be bound."""
    try:
        real = Path(mount.source).resolve(strict=True)
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "too many symbolic links"
        raise SpecInvalid(
            field,
            f"{mount.source} cannot be mounted: {reason}.",
            hint="Create it on the host first, or use a named volume.",
        ) from error
    for private in (config.root, config.run):
        if real.is_relative_to(private.resolve()):
            raise SpecInvalid(
                field,
                f"{mount.source} lies in the platform's own directory {private}.",
                hint="Use a named volume to share data between containers.",
            )
    return real
