"""The process that becomes a container's init without having been forked for it (see ahead.py).

In reserve it holds nothing of the host's but the /dev/null that covers what is masked: it has left the host's
tree for a small one of its own, so that no disk of the host is busy because of it.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NoReturn

from runtime.cgroups import walk_in
from runtime.errors import EngineError, error_context
from runtime.kernel import constants as c
from runtime.kernel import mount_trees, mounts, standard, syscalls
from runtime.kernel.rtnetlink import Rtnetlink
from runtime.shim import command, init, sockets
from runtime.shim.userns import become_root

if TYPE_CHECKING:
    from runtime.model.plan import MountStep, Plan

_FIRST = (standard.proc(), standard.sys())
_IN_DEV = (
    standard.pts(),
    standard.shm(),
    standard.mqueue(),
    *(standard.link(name) for name in standard.LINKS),
)
# The steps of a plan that are done before there is one, by target.
PREPARED = {
    step["target"]: step
    for step in (
        *_FIRST,
        standard.dev(),
        *(standard.device(f"/dev/{name}", f"/dev/{name}") for name in standard.DEVICES),
        *_IN_DEV,
    )
}
_MAX_MESSAGE, _MAX_FDS = 120_000, 253  # SCM_MAX_FD
_GROUPS = "/sys/fs/cgroup"


def is_of_groups(step: MountStep) -> bool:
    """Of the mounts by which the container sees its groups; what a user wants there is none of them."""
    return step.get("plain", False) and f"{step['target']}/".startswith(f"{_GROUPS}/")


def is_prepared(step: MountStep) -> bool:
    return PREPARED.get(step["target"]) == step


def run_ahead(
    channel: sockets.Socket, status: int, go: int, outputs: list[int], dev: int, *, last_id: int
) -> NoReturn:
    """Prepare all that is known, then wait for a plan. `outputs` become stdout and stderr, `dev` is a detached
    /dev; the others are as in `init.run_init`. Ends when the starter does. Never returns.
    """
    try:
        if not channel.recv(1):
            os._exit(0)  # its ids are never mapped
        become_root()
        # Not before: its /dev/mqueue belongs to whoever makes it.
        syscalls.unshare(c.CLONE_NEWIPC)
        os.setsid()
        _take_stdio(outputs)
        tree = mounts.make_detached(standard.filesystem("tmpfs", "/", 0, "mode=755,size=64k"))
        settings = _furnish(tree, dev, last_id)
        init.forbid_imports()
        os.chdir(tree)
        mounts.pivot_into(".")
        _rehearse()
        channel.send(b"r")
        _become(channel, tree, settings, status, go, last_id)
    except BaseException as error:  # noqa: BLE001 - nothing may escape into the shim's own code
        os._exit(init.report(status, error))


def _rehearse() -> None:
    """What a start is going to call, for nothing: the memory that it writes to is copied now, when nobody waits."""
    example = {"mounts": list(PREPARED.values()), "sysctls": standard.sysctls(0)}
    plan = json.loads(json.dumps(example))
    for step in plan["mounts"]:
        if not is_prepared(step) or is_of_groups(step):
            raise EngineError("What is prepared cannot be told in JSON.")
    command.rehearse()


def _take_stdio(outputs: list[int]) -> None:
    # Anew: the starter's is open for writing as well.
    os.dup2(os.open("/proc/self/fd/0", os.O_RDONLY | os.O_CLOEXEC), 0)
    for standard_fd, fd in zip((1, 2), outputs, strict=True):
        os.dup2(fd, standard_fd)


def _furnish(tree: int, dev: int, last_id: int) -> int:
    """Mount everything in `tree`, over our root. Returns a descriptor of a /proc/sys that can be written to."""
    syscalls.move_mount(tree, "/")
    os.mkdir("dev", dir_fd=tree)
    syscalls.move_mount(dev, "dev", tree)
    os.close(dev)
    for step in (*_FIRST, *_IN_DEV):
        mounts.execute(step, tree)
    settings = mounts.resolve(tree, "/proc/sys", plain=True)
    mounts.protect(tree, standard.MASKED_PATHS, standard.READONLY_PATHS)
    with Rtnetlink() as link:
        link.up("lo")
    init.write_sysctls(standard.sysctls(last_id), settings)
    return settings


def _become(
    channel: sockets.Socket, tree: int, settings: int, status: int, go: int, last_id: int
) -> NoReturn:
    plan: Plan = json.loads(_receive(channel)[0])
    _, doors = _receive(channel)
    with error_context("cgroup"):
        walk_in(doors, plan["cgroup"]["version"])
    data, fds = _receive(channel)
    given = dict(zip(json.loads(data), fds, strict=True))
    with error_context("namespaces"):
        if plan["namespaces"]["cgroup"] == "own":
            syscalls.unshare(c.CLONE_NEWCGROUP)
        init.name_host(plan)
    if "stdin" in given:
        os.dup2(given["stdin"], 0)
    with error_context("mounts"):
        _mount_groups(plan, tree, given)
        data, fds = _receive(channel)
        _build_rootfs(plan, tree, fds[0], dict(zip(json.loads(data), fds[1:], strict=True)))
    for fd in (tree, fds[0]):
        os.close(fd)
    done = standard.sysctls(last_id)
    rest = {k: v for k, v in plan["sysctls"].items() if done.get(k) != v}
    init.go_on(
        {**plan, "sysctls": rest},
        go=go,
        status=status,
        terminal=given.get("terminal", -1),
        settings=settings,
        configure_network=bool(plan["interfaces"]),  # there is no other than "lo", which is up
        enter=mounts.chroot_into,
    )


def _receive(channel: sockets.Socket) -> tuple[bytes, list[int]]:
    data, fds = sockets.recv_fds(channel, _MAX_MESSAGE, _MAX_FDS)
    if not data:
        os._exit(128)  # no container has use for it, or its starter has said why there is none
    return data, fds


def _mount_groups(plan: Plan, tree: int, given: dict[str, int]) -> None:
    for index, step in enumerate(plan["mounts"]):
        if not is_of_groups(step):
            continue
        if step["kind"] != "bind":
            mounts.execute(step, tree)
        elif str(index) in given:
            # In a file system that we have just mounted: there is nothing yet. The last of these steps sees to the
            # attributes of all.
            name = step["target"].lstrip("/")
            os.mkdir(name, dir_fd=tree)
            mount_trees.put(given[str(index)], tree, name)


def _build_rootfs(plan: Plan, tree: int, root: int, sources: dict[int, int]) -> None:
    """Mount `root` over the small one, and in it what belongs there, and enter it. `sources` are those of binds, by
    number.
    """
    syscalls.move_mount(root, "", tree, c.MOVE_MOUNT_T_EMPTY_PATH)
    for index, step in enumerate(plan["mounts"]):
        if not is_prepared(step) and not is_of_groups(step):
            mounts.execute(step, root, sources.get(index, -1))
    # Last, for the steps above find their targets through /proc.
    for step in (standard.sys(), standard.dev(), standard.proc()):
        mounts.move(tree, root, step)
    if plan["overlay"]["read_only"]:
        syscalls.mount_setattr(root, "", attr_set=c.MOUNT_ATTR_RDONLY)
    os.chdir(root)
