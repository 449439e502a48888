"""The user namespace that the launcher holds, and whether this host can run containers in one."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

from runtime.errors import EngineError
from runtime.kernel import constants as c
from runtime.kernel import mounts, syscalls, userns
from runtime.kernel.idmap import IdsNotMapped, cover
from runtime.store.files import write_json
from runtime.store.paths import Config

# What fails for want of memory or descriptors may do so once. Containers with the host's ids are not made for that.
_TRIES = 3


def install(config: Config) -> int:
    """Make the user namespace, and note for the engine why there is none. Returns its descriptor, or -1."""
    namespace, reason = _make(config)
    for _ in range(_TRIES - 1):
        if namespace < 0:
            namespace, reason = _make(config)
    config.run.mkdir(parents=True, exist_ok=True)
    write_json(config.user_namespaces, {"reason": reason, "ids": config.ids}, durable=False)
    return namespace


def _make(config: Config) -> tuple[int, str]:
    if config.ids is None:
        return -1, "SLIPWAY_USERNS turns them off"
    for directory in (config.layers, config.containers, config.volumes):
        if not directory.resolve().is_relative_to(config.root.resolve()):
            return -1, f"{directory} is a link that leaves {config.root}"
    try:
        namespace = userns.make(*config.ids)
    except (EngineError, OSError) as error:
        return -1, f"the kernel makes none ({error})"
    try:
        reason = _try(config, namespace, config.ids[0])
    except (EngineError, OSError) as error:
        reason = f"they could not be tried ({error})"
    if reason:
        os.close(namespace)
        return -1, reason
    return namespace, ""


def _try(config: Config, namespace: int, owner: int) -> str:
    """Why the instance's directory cannot hold a container's root file system; "" when it can."""
    directory = config.tmp / f"userns-{os.getpid()}"
    for name in ("lower", "upper", "work", "merged"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    told, tell = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.fork()
        if pid == 0:
            _report(tell, str(config.root), str(directory), namespace, owner)
        os.close(tell)
        tell = -1
        with open(told, encoding="utf-8", closefd=False) as answers:
            answer = answers.read()
        os.waitpid(pid, 0)
        if answer != "made":
            return answer or "the trial died"
        if (directory / "upper" / "probe").stat().st_uid != 0:
            return "overlayfs does not map the ids of its upper layer"
        return ""
    finally:
        os.close(told)
        if tell >= 0:
            os.close(tell)
        shutil.rmtree(directory, ignore_errors=True)


def _try_inside(merged: str, namespace: int) -> str:
    """Mount what init mounts of the kernel's. A host that is a container itself may not let us."""
    os.chdir(merged)
    syscalls.setns(namespace, c.CLONE_NEWUSER)
    syscalls.unshare(c.CLONE_NEWNS | c.CLONE_NEWNET | c.CLONE_NEWPID | c.CLONE_NEWIPC)
    pid = os.fork()
    if pid == 0:
        try:
            for fstype in ("proc", "sysfs", "mqueue"):
                syscalls.mount(fstype, ".", fstype, c.MS_NOSUID | c.MS_NODEV | c.MS_NOEXEC)
            os._exit(0)
        finally:
            os._exit(1)
    if os.waitpid(pid, 0)[1]:
        return "the kernel's file systems cannot be mounted inside: parts of /proc or /sys are hidden here"
    return "made"


def _report(tell: int, root: str, directory: str, namespace: int, owner: int) -> NoReturn:
    """As a starter does it (runtime.shim.userns), with one file written. Never returns."""
    try:
        try:
            syscalls.unshare(c.CLONE_NEWNS)
            syscalls.mount("none", "/", "", c.MS_SLAVE | c.MS_REC)
            cover(root, namespace)
            syscalls.prctl(c.PR_SET_SECUREBITS, c.SECBIT_NO_SETUID_FIXUP)
            syscalls.set_fs_ids(owner, owner)
            merged = f"{directory}/merged"
            mounts.mount_overlay(
                {
                    "lower": [f"{directory}/lower"],
                    "upper": f"{directory}/upper",
                    "work": f"{directory}/work",
                    "rootfs": merged,
                    "read_only": False,
                    "data": root,
                }
            )
            os.close(os.open(f"{merged}/probe", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            answer = _try_inside(merged, namespace)
        except IdsNotMapped as error:
            answer = f"{root} lies on {error}, which has no idmapped mounts on this kernel"
        except (EngineError, OSError) as error:
            answer = f"overlayfs does not take idmapped mounts ({error})"
        os.write(tell, answer.encode())
    finally:
        os._exit(0)
