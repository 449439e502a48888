"""A start in a user namespace: what takes the host's root is done here, by the starter, before it joins.

The ids on disk are the ones seen inside: layers, writable layer and volumes are mounted idmapped, never
chowned, so that a container can be started with a user namespace now and without one the next time. See
docs/design/012-user-namespaces.md.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from runtime.cgroups import files, open_cgroup
from runtime.errors import EngineError, KernelFailure, Unsupported, error_context, from_payload
from runtime.kernel import constants as c
from runtime.kernel import mount_trees, mounts, syscalls, userns
from runtime.kernel.idmap import IdsNotMapped, cover, map_ids
from runtime.kernel.rlimits import number_of
from runtime.shim.command import stay_closed
from runtime.shim.init import write_oom_score

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runtime.model.plan import MountStep, Plan, UserNamespace
    from runtime.shim.sockets import Socket

# Of the launcher's making, with the ids of every container of this instance; -1 when there is none. Mounts are
# mapped by it; each container gets a namespace of its own with the same ids.
installed = -1
ids = (0, 0)  # (first, count) of the host's, as `installed` has them
_MAX_ANSWER = 1 << 16  # bytes
_NS_GET_USERNS = 0xB701  # linux/nsfs.h


def network_ahead() -> int:
    """A network namespace in a user namespace, for a container that is not known yet; -1 when there is none."""
    if installed < 0:
        return -1
    try:
        return userns.make_network(*ids)
    except (EngineError, OSError):
        return -1  # whoever needs one will be told why


def wanted(plan: Plan) -> bool:
    """The plan asks for a user namespace. Raises Unsupported when there must be one, and none is possible."""
    if plan["namespaces"]["user"] == "own" and installed < 0:
        _give_up(plan, "A user namespace", "user namespaces and idmapped mounts")
    return plan["namespaces"]["user"] != "host"


def prepare(plan: Plan) -> bool:
    """Make the mounts of a container in the user namespace, as the host's root.

    Takes the steps that are done out of plan["mounts"]. False when a file system of its mounts has no idmapped
    mounts and the container may do without a user namespace: then nothing has changed. Raises EngineError, OSError.
    """
    trees = take_sources(plan)
    if trees is None:
        return False
    for index, tree in trees.items():
        plan["mounts"][index]["tree"] = tree
    with _as_its_root(plan) as ids:
        mount_root(plan)
        _make_devices(plan, ids)
    # Init may not be able to reach it by its path.
    os.chdir(plan["overlay"]["rootfs"])
    return True


def take_sources(plan: Plan) -> dict[int, int] | None:
    """In a mount namespace of our own from now on: copies of the sources of binds, by number in plan["mounts"], and
    an idmapped view of the instance's directory in its place. None as `prepare` says False. Raises as that.
    """
    syscalls.unshare(c.CLONE_NEWNS)
    syscalls.mount("none", "/", "", c.MS_SLAVE | c.MS_REC)
    mode = plan["namespaces"]["user"]
    namespace = installed if mode == "own" else _of_process(mode.removeprefix("pid:"))
    try:
        trees = _trees(plan["mounts"], "mapped", namespace)
        cover(plan["overlay"]["data"], namespace)
    except IdsNotMapped as error:
        _give_up(plan, "A user namespace with these mounts", f"idmapped mounts on {error}")
        return None
    trees |= _trees(plan["mounts"], "kept")
    uid, gid = owner(plan["user_namespace"])
    for name in ("hosts", "hostname", "resolv.conf"):
        os.chown(f"{plan['run_dir']}/{name}", uid, gid)
    return trees


@contextmanager
def _as_its_root(plan: Plan) -> Iterator[tuple[int, int]]:
    """What is made here belongs to the container's root, whose ids are yielded."""
    uid, gid = owner(plan["user_namespace"])
    syscalls.prctl(c.PR_SET_SECUREBITS, c.SECBIT_NO_SETUID_FIXUP)
    syscalls.set_fs_ids(uid, gid)
    yield uid, gid
    syscalls.set_fs_ids(0, 0)


def mount_root(plan: Plan) -> None:
    # Overlayfs keeps the credentials of who mounts it, and what they create must have an owner on disk.
    with error_context("rootfs"):
        mounts.mount_overlay(plan["overlay"])


def root_tree(plan: Plan) -> int:
    """A detached copy of the container's root file system, after `take_sources`. Raises EngineError, OSError."""
    with _as_its_root(plan):
        mount_root(plan)
    return syscalls.open_tree(plan["overlay"]["rootfs"], c.OPEN_TREE_CLONE | c.OPEN_TREE_CLOEXEC)


def owner(mapping: UserNamespace | None) -> tuple[int, int]:
    """The host's ids of the container's root."""
    assert mapping is not None
    return mapping["uids"][0]["outside"], mapping["gids"][0]["outside"]


def _trees(steps: list[MountStep], ids: str, namespace: int = -1) -> dict[int, int]:
    """A copy of the source of each bind with these `ids`, by its number, mapped by `namespace` unless that is -1."""
    made: dict[int, int] = {}
    try:
        for index, step in enumerate(steps):
            if step.get("ids") == ids:
                made[index] = tree = mounts.copy_tree(step)
                if namespace >= 0:
                    map_ids(tree, namespace, recursive=mount_trees.takes_submounts(step))
    except BaseException:
        for tree in made.values():
            os.close(tree)
        raise
    return made


def _make_devices(plan: Plan, shift: tuple[int, int]) -> None:
    """/dev and its nodes: inside, nobody may make nodes, and a bind would keep the host's owner."""
    root = os.open(plan["overlay"]["rootfs"], c.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    rest: list[MountStep] = []
    try:
        for step in plan["mounts"]:
            if step["kind"] == "device":
                mounts.execute({**step, "shift": shift}, root)
            elif step["target"] == "/dev" and step["kind"] == "filesystem":
                data = f"{step.get('data', '')},uid={shift[0]},gid={shift[1]}"
                mounts.execute({**step, "data": data}, root)
            else:
                rest.append(step)
    finally:
        os.close(root)
    plan["mounts"] = rest


def join(plan: Plan, netns: int, monitor: Socket) -> list[int]:
    """Become root of the container's user namespace: another's, the one that owns `netns`, or a new one, whose
    ids `monitor` is asked to map (`write_maps`). Returns the doors of the container's groups, for init.
    """
    with error_context("oom_score_adj"):
        write_oom_score(plan["oom_score_adj"])
    raise_limits(plan)
    with error_context("cgroup"):
        doors = open_cgroup(plan["cgroup"]).doors()
    mode = plan["namespaces"]["user"]
    with error_context("namespaces"):
        if mode.startswith("pid:"):
            syscalls.setns(_of_process(mode.removeprefix("pid:")), c.CLONE_NEWUSER)
        elif netns >= 0:
            syscalls.setns(fcntl.ioctl(netns, _NS_GET_USERNS), c.CLONE_NEWUSER)
        else:
            _leave_the_host_s()
            monitor.send(json.dumps({"map": plan["user_namespace"]}).encode())
            if answer := monitor.recv(_MAX_ANSWER)[1:]:
                raise from_payload(json.loads(answer))
        become_root()
    return doors


def _leave_the_host_s() -> None:
    try:
        syscalls.unshare(c.CLONE_NEWUSER)
    except KernelFailure as error:
        if error.errno in (errno.ENOSPC, errno.EUSERS):
            error.hint = "Raise the setting user.max_user_namespaces, or choose userns=host."
        raise


def become_root() -> None:
    """In place of ids that the user namespace just entered does not know."""
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    stay_closed()


def write_maps(pid: int, mapping: UserNamespace) -> bytes:
    """The monitor's answer to a starter that has made a user namespace: its ids are mapped, or why not."""
    try:
        for name, ranges in (("uid_map", mapping["uids"]), ("gid_map", mapping["gids"])):
            lines = [f"{r['inside']} {r['outside']} {r['size']}" for r in ranges]
            files.write(f"/proc/{pid}/{name}", "\n".join(lines))
    except OSError as error:
        failure = KernelFailure("write", error.errno or 0, str(error.filename or ""))
        return b"-" + json.dumps(failure.payload()).encode()
    return b"+"


def raise_limits(plan: Plan, pid: int = 0) -> None:
    """What only the host's root may raise, for process `pid` or ourselves; where it may not either, init says so when
    it sets the limits.
    """
    asked = {name: hard for name, _, hard in plan["rlimits"]}
    # Root inside is a user like any other to the kernel. How many processes it may have, its group says.
    asked.setdefault("nproc", resource.RLIM_INFINITY)
    for name, hard in asked.items():
        number = number_of(name)
        if number is None:
            continue
        now = resource.prlimit(pid, number)
        if _most(hard, now[0]) != now[0]:
            with suppress(ValueError, OSError):
                resource.prlimit(pid, number, (hard, _most(hard, now[1])))


def _most(one: int, other: int) -> int:
    unlimited = resource.RLIM_INFINITY
    return unlimited if unlimited in (one, other) else max(one, other)


def _of_process(pid: str) -> int:
    return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)


def _give_up(plan: Plan, feature: str, requires: str) -> None:
    """Do without, unless it was asked for. Raises Unsupported then."""
    mapping = plan["user_namespace"]
    if mapping is not None and mapping["required"]:
        raise Unsupported(
            feature, requires, hint="Choose userns=host to run without.", field="security.userns"
        )
    plan["namespaces"]["user"] = "host"
    # In the supervisor's log, as nobody has asked for one.
    told = f"shim: {plan['id'][:12]} runs with the host's ids, for want of {requires}\n"
    os.write(2, told.encode())
