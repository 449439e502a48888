"""Init of a container that is not known yet, as the starter sees it that keeps it in reserve.

It has been forked into namespaces of its own, with the file systems, masks and settings that containers have
alike (runtime.kernel.standard), and waits (ahead_init.py). A plan that asks for nothing else of these takes it;
for any other the starter dismisses it and forks one.
"""

from __future__ import annotations

import json
import os
import select
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from runtime.errors import EngineError
from runtime.kernel import constants as c
from runtime.kernel import mounts, procfs, standard, syscalls
from runtime.kernel.successor import go_on_in_successor
from runtime.shim import sockets
from runtime.shim.ahead_init import PREPARED, is_of_groups, is_prepared, run_ahead
from runtime.shim.userns import owner

if TYPE_CHECKING:
    from runtime.model.plan import MountStep, Plan

    Descriptors = list[tuple[str, int]]  # by name

_NAMESPACES = (
    c.CLONE_NEWUSER | c.CLONE_NEWPID | c.CLONE_NEWNET | c.CLONE_NEWNS | c.CLONE_NEWUTS
)  # fmt: skip
_OWN = ("user", "pid", "network", "ipc", "uts")
_KERNEL_S = ("/proc", "/sys", "/dev")
# What goes in one message: bytes, and descriptors beside others.
_MAX_PLAN, _MAX_TREES = 100_000, 100
_MAX_PID = 16


class InitAhead:
    """Once it is `ready` there are the `pid`, `start_time`, `pidfd` and `netns` of init, and `kept`: the monitor's ends
    of its descriptors, by name. `holder` is the process whose place init took, and which keeps its memory
    (runtime.kernel.successor); both are children of our parent.
    """

    def __init__(self) -> None:
        self.ready = False
        self.holder = self.pid = self.start_time = 0
        self.pidfd = self.netns = self._status = -1
        self.kept: Descriptors = []

    def make(self, ids: tuple[int, int], private: tuple[int, ...]) -> None:
        """As a child of our parent: `ids` are the host's (first, count), `private` descriptors that it must not hold
        open. Raises EngineError, OSError; then it is to be dismissed.
        """
        self._channel, theirs = sockets.pair(sockets.SOCK_SEQPACKET)
        status, self._status = os.pipe2(os.O_CLOEXEC)
        self.kept.append(("status", status))
        go, tell = os.pipe2(os.O_CLOEXEC)
        self.kept.append(("go", tell))
        outputs = []
        for name in ("out", "err"):
            read, write = os.pipe2(os.O_CLOEXEC)
            self.kept.append((name, read))
            outputs.append(write)
            os.fchown(write, ids[0], ids[0])
        dev = _make_dev(ids[0])
        parent = os.getppid()
        self.holder = syscalls.fork_sibling()
        if self.holder == 0:
            try:
                for fd in (*private, self._channel.detach(), *(fd for _, fd in self.kept)):
                    os.close(fd)
                pid = go_on_in_successor(_NAMESPACES, parent)
                theirs.send(str(pid).encode())
                run_ahead(theirs, self._status, go, outputs, dev, last_id=ids[1] - 1)
            finally:
                os._exit(128)  # it would go on as a second starter
        theirs.close()
        for fd in (go, *outputs, dev):
            os.close(fd)
        self.pid = int(self._channel.recv(_MAX_PID) or 0)
        if not self.pid:
            raise EngineError("Init in reserve could not be made.")
        self.pidfd = os.pidfd_open(self.pid)
        self.start_time = procfs.start_time(self.pid)
        self._map(*ids)
        self.netns = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.ready = True

    def _map(self, first: int, count: int) -> None:
        """Give its user namespace ids, and let it prepare all else."""
        for name in ("uid_map", "gid_map"):
            fd = os.open(f"/proc/{self.pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, b"0 %d %d" % (first, count))
            finally:
                os.close(fd)
        self._channel.send(b"m")
        if not self._channel.recv(1):
            raise EngineError("Init in reserve has failed.")

    def tell(self, raw: bytes) -> None:
        """Have it read the JSON of a plan, which need not fit, while we look after the rest."""
        if len(raw) <= _MAX_PLAN:
            with suppress(OSError):  # it has just died
                self._channel.send(raw)

    def enter(self, doors: list[int]) -> None:
        """Have it enter its groups by the `doors`, which are closed, while we look after the rest."""
        self._send(b"d", doors)

    def give(self, plan: Plan) -> None:
        """Make it the init of this plan, one that `fits`, which it has been told. It goes on until `attach`."""
        fds = []
        for index, step in enumerate(plan["mounts"]):
            if step["kind"] == "bind" and is_of_groups(step):
                with suppress(EngineError):  # it is optional
                    fds.append((str(index), mounts.copy_tree(step)))
        if plan["tty"]:
            for fd in (self._take("out"), self._take("err")):
                os.close(fd)
            ours, theirs = sockets.pair()
            fds.append(("terminal", theirs.detach()))
            self.kept.append(("terminal", ours.detach()))
        elif plan["stdin"]:
            read, write = os.pipe2(os.O_CLOEXEC)
            os.fchown(read, *owner(plan["user_namespace"]))
            fds.append(("stdin", read))
            self.kept.append(("in", write))
        self._send(json.dumps([name for name, _ in fds]).encode(), [fd for _, fd in fds])

    def _send(self, data: bytes, fds: list[int]) -> None:
        sockets.send_fds(self._channel, data, fds)
        for fd in fds:
            os.close(fd)

    def attach(self, root: int, trees: dict[int, int]) -> None:
        """Hand over its root file system, and the sources of its binds by their number in plan["mounts"]."""
        head = json.dumps(list(trees)).encode()
        sockets.send_fds(self._channel, head, [root, *trees.values()])

    def let_go(self) -> None:
        """It need not wait for anything else."""
        go = self._take("go")
        with suppress(BrokenPipeError):  # it has failed already, and said why
            os.write(go, b"g")
        os.close(go)

    def release(self) -> None:
        """What the monitor has as well, and what it listens to: init alone is to be heard there."""
        for fd in (self._status, self.pidfd, self.netns, *(fd for _, fd in self.kept)):
            os.close(fd)
        self._channel.close()

    def dismiss(self) -> None:
        """No container takes it. It is dead when this returns, for our parent to reap, unless it could not be watched.
        Its network namespace, if there is one, is still of use.
        """
        self.ready = False
        for pid in self.others():
            # As long as it is not reaped the pid is nobody else's.
            os.kill(pid, signal.SIGKILL)
        if self.pidfd >= 0:
            poller = select.poll()
            poller.register(self.pidfd, select.POLLIN)
            poller.poll()
        for fd in (self.pidfd, self._status, *(fd for _, fd in self.kept)):
            if fd >= 0:
                os.close(fd)

    def others(self, *, init: bool = True) -> list[int]:
        """The pids of both, or of the holder alone, as far as there are any: for our parent to end and reap."""
        return [pid for pid in (self.holder, self.pid if init else 0) if pid]

    def _take(self, name: str) -> int:
        fd = dict(self.kept)[name]
        self.kept.remove((name, fd))
        return fd


def fits(plan: Plan, raw: bytes) -> bool:
    """Whether all that is prepared is as the plan has it, and the rest can be done on top of it."""
    modes, steps = plan["namespaces"], plan["mounts"]
    return (
        len(raw) <= _MAX_PLAN
        and len(steps) <= len(PREPARED) + _MAX_TREES
        and all(modes[kind] == "own" for kind in _OWN)  # type: ignore[literal-required]
        and plan["masked_paths"] == list(standard.MASKED_PATHS)
        and plan["readonly_paths"] == list(standard.READONLY_PATHS)
        and sum(map(is_prepared, steps)) == len(PREPARED)
        and all(is_prepared(step) or _is_on_top(step) for step in steps)
    )


def _is_on_top(step: MountStep) -> bool:
    if is_of_groups(step):
        return True
    target = os.path.normpath(step["target"])
    if any(target == path or target.startswith(f"{path}/") for path in _KERNEL_S):
        return False  # the masks would have to come after it
    return "ids" in step if step["kind"] == "bind" else step["kind"] == "filesystem"


def _make_dev(root: int) -> int:
    """A detached /dev with its nodes, which belong to the host's id `root`: inside, nobody may make nodes."""
    step = standard.dev()
    tree = mounts.make_detached(step, f"uid={root},gid={root}")
    for name in standard.DEVICES:
        # From the tree's own root.
        node = standard.device(f"/dev/{name}", f"/{name}")
        mounts.execute({**node, "shift": (root, root)}, tree)
    return tree
