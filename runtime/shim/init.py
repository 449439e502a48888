"""The container's first process, from fork to its command (command.py): namespaces and root file system.

Runs in a single-threaded child of the shim. Every step that can fail names its stage; the error goes to
the shim through `status`, a close-on-exec descriptor, so that its silent end means success.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from runtime.cgroups import open_cgroup, walk_in
from runtime.errors import EngineError, InitFailed, error_context
from runtime.kernel import constants as c
from runtime.kernel import mount_trees, mounts, syscalls
from runtime.kernel.rtnetlink import Rtnetlink
from runtime.shim.command import run_command

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.model.plan import Plan

_SETTINGS = "/proc/sys"
_OWN = {
    "ipc": c.CLONE_NEWIPC,
    "uts": c.CLONE_NEWUTS,
    "cgroup": c.CLONE_NEWCGROUP,
}


def run_init(
    plan: Plan,
    *,
    go: int,
    status: int,
    terminal: int,
    configure_network: bool,
    doors: list[int] | None,
) -> NoReturn:
    """Become the container's process. `go` is readable when the network is there; `terminal` is a
    socket that takes the master side of the container's pty, or -1. In a user namespace `doors` lead to
    the container's groups, and what takes the host's root is done (userns.py); else it is None.

    Never returns: executes the command, or reports the error and exits with its code.
    """
    try:
        _become(plan, go, status, terminal, configure_network, doors)
    except BaseException as error:  # noqa: BLE001 - nothing may escape into the shim's own code
        os._exit(report(status, error))


def report(status: int, error: BaseException) -> int:
    """Tell the monitor why there will be no execve. Returns the exit code for it."""
    told = as_init_failed(error)
    os.write(status, json.dumps(told.payload()).encode())
    return told.exit_code


def as_init_failed(error: BaseException) -> InitFailed:
    """The error with the stage that its context noted."""
    if isinstance(error, InitFailed):
        return error
    if isinstance(error, EngineError):
        stage = str(error.extra.get("stage", "init"))
        details = {k: v for k, v in error.extra.items() if k != "stage"}
        return InitFailed(stage, error.message, hint=error.hint, **details)
    return InitFailed("init", f"{type(error).__name__}: {error}")


def _become(
    plan: Plan,
    go: int,
    status: int,
    terminal: int,
    configure_network: bool,
    doors: list[int] | None,
) -> NoReturn:
    os.setsid()
    with error_context("cgroup"):
        if doors is None:
            open_cgroup(plan["cgroup"]).enter()
        else:
            walk_in(doors, plan["cgroup"]["version"])
    with error_context("namespaces"):
        _enter_namespaces(plan)
    with error_context("mounts"):
        _build_rootfs(plan, mounted=doors is not None)
    if doors is None:
        with error_context("oom_score_adj"):
            write_oom_score(plan["oom_score_adj"])
    go_on(
        plan,
        go=go,
        status=status,
        terminal=terminal,
        settings=os.open(_SETTINGS, c.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC),
        configure_network=configure_network,
    )


def go_on(
    plan: Plan,
    *,
    go: int,
    status: int,
    terminal: int,
    settings: int,
    configure_network: bool,
    enter: Callable[[str], None] = mounts.pivot_into,
) -> NoReturn:
    """From a root file system that is built, and our current directory, to the command. `settings` is a directory
    /proc/sys that can be written to, which is closed; `enter` makes the current directory our root; the others are as
    in `run_init`.
    """
    # The starter has ended and the network is there; or the monitor is gone, and nobody wants us.
    if os.read(go, 1) != b"g":
        os._exit(128)
    with error_context("network"):
        if configure_network:
            _configure_network(plan, settings)
    with error_context("sysctls"):
        write_sysctls(plan["sysctls"], settings, mapped=plan["user_namespace"] is not None)
    # Through it the working directory could be where the kernel's settings can be changed.
    os.close(settings)
    with error_context("pivot"):
        forbid_imports()
        enter(".")
    run_command(plan, status=status, terminal=terminal)


def forbid_imports() -> None:
    """Whatever is imported after pivot_root would be the image's code, run as the host's root."""
    sys.meta_path.clear()
    sys.path.clear()


def _enter_namespaces(plan: Plan) -> None:
    flags = c.CLONE_NEWNS
    for name, flag in _OWN.items():
        mode = plan["namespaces"][name]  # type: ignore[literal-required]
        if mode == "own":
            flags |= flag
        elif mode.startswith("pid:"):
            join(mode, name, flag)
    syscalls.unshare(flags)
    name_host(plan)


def name_host(plan: Plan) -> None:
    if plan["hostname"] and plan["namespaces"]["uts"] == "own":
        syscalls.sethostname(plan["hostname"])
        if plan["domainname"]:
            syscalls.setdomainname(plan["domainname"])


def join(mode: str, kind: str, flag: int) -> None:
    """Enter the namespace `kind` of the process in "pid:<n>"."""
    fd = os.open(f"/proc/{mode.removeprefix('pid:')}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(fd, flag)
    finally:
        os.close(fd)


def _build_rootfs(plan: Plan, *, mounted: bool) -> None:
    """Make every mount and enter its root, which is the current directory already when it is `mounted`."""
    steps = plan["mounts"]
    shared: dict[int, int] = {}
    if not mounted:
        # Copied while they are still the host's peers: what the container mounts there reaches the host.
        shared = {i: mounts.copy_tree(s) for i, s in enumerate(steps) if mounts.is_shared(s)}
        # Slave, not private: mounts the host makes later reach volumes that ask for rslave; ours never leave.
        syscalls.mount("none", "/", "", c.MS_SLAVE | c.MS_REC)
    with error_context("rootfs"):
        if mounted:
            root = mount_trees.lay_copy_over(".")
        else:
            mounts.mount_overlay(plan["overlay"])
            root = os.open(plan["overlay"]["rootfs"], c.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for index, step in enumerate(steps):
            mounts.execute(step, root, step.get("tree", shared.pop(index, -1)))
        mounts.protect(root, plan["masked_paths"], plan["readonly_paths"])
        if plan["overlay"]["read_only"]:
            # Last, because mount points are made in it.
            syscalls.mount_setattr(root, "", attr_set=c.MOUNT_ATTR_RDONLY)
        os.chdir(root)
    finally:
        os.close(root)


def _configure_network(plan: Plan, settings: int) -> None:
    if plan["namespaces"]["network"] != "own":
        return
    with Rtnetlink() as link:
        link.up("lo")
        for interface in plan["interfaces"]:
            link.set_up(interface, settings)


def write_sysctls(sysctls: dict[str, str], settings: int, *, mapped: bool = True) -> None:
    """Raises InitFailed for one that this kernel has not, or refuses, perhaps for a container that is `mapped`."""
    for name, value in sysctls.items():
        path = name.replace(".", "/")
        try:
            fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, dir_fd=settings)
            try:
                os.write(fd, value.encode("ascii"))
            finally:
                os.close(fd)
        except (OSError, UnicodeError) as error:
            missing = isinstance(error, FileNotFoundError)
            reason = "this kernel has none" if missing else f"the kernel refuses {value!r}"
            hint = "Check its name and value, or leave it out."
            if missing and mapped:
                # net.core.* for one on older kernels: only network namespaces of the host's user namespace have it.
                reason = "this kernel has none here"
                hint = "Check its name; some kernels keep settings from user namespaces: userns=host has them."
            raise InitFailed(
                "sysctls",
                f"Cannot set {name}: {reason}.",
                hint=hint,
                field=f"security.sysctls.{name}",
            ) from error


def write_oom_score(value: int, pid: int | str = "self") -> None:
    """Also 0: it must not be the one that the platform's own processes have."""
    fd = os.open(f"/proc/{pid}/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
    try:
        current = int(os.read(fd, 16))
        if value != current:
            os.pwrite(fd, str(value).encode(), 0)
    except PermissionError as error:
        raise InitFailed(
            "oom_score_adj",
            f"This host does not let Slipway set an OOM score of {value}.",
            hint=f"Lowering it requires CAP_SYS_RESOURCE: choose {max(current, 0)} or more.",
            field="limits.oom_score_adj",
        ) from error
    finally:
        os.close(fd)
