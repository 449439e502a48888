"""Further processes in a running container: what `exec` asks for, and health checks.

A short-lived helper joins the container's namespaces, and the process goes on in its place as the monitor's own child
(runtime.kernel.successor); what that costs in memory goes with the helper, when the command has been executed.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from typing import TYPE_CHECKING, Any, NoReturn

from runtime.cgroups import open_cgroup, walk_in
from runtime.errors import EngineError, KernelFailure, error_context, from_payload
from runtime.kernel import constants as c
from runtime.kernel import syscalls
from runtime.kernel.successor import go_on_in_successor
from runtime.shim import sockets
from runtime.shim.command import run_command
from runtime.shim.init import forbid_imports, report, write_oom_score
from runtime.shim.starter import PLAN_FILE
from runtime.shim.userns import become_root, owner, raise_limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.model.plan import Plan
    from runtime.shim.control import Client

_ALL = (
    c.CLONE_NEWNS | c.CLONE_NEWPID | c.CLONE_NEWNET | c.CLONE_NEWIPC | c.CLONE_NEWUTS
    | c.CLONE_NEWCGROUP
)  # fmt: skip
# What a request may say of the process, in place of what the container's own has.
_FIELDS = ("args", "cwd", "user", "groups", "tty", "stdin", "capabilities")
_MAX_MESSAGE = 1 << 16
# Seconds that a helper stays when its command has been executed, unless that ends sooner. To end takes it a millisecond
# of the processor that a short command would be done with by then.
_STAY = 0.1


class Exec:
    """One process; `fds` are the far ends of its descriptors, by name, for whoever asked for it. `executed` tells by its
    end that the command runs, or has failed, and the process needs its helper no more.

    "status" ends silently once the command runs, or carries the error; with a terminal "terminal" is a
    socket that hands over the master side, without one there are "out", "err" and perhaps "in".
    """

    def __init__(
        self, run_dir: str, init: int, request: dict[str, Any], on_end: Callable[[int], None]
    ) -> None:
        ours, theirs = sockets.pair(sockets.SOCK_SEQPACKET)
        monitor = os.getpid()
        self._helper = os.fork()
        if self._helper == 0:
            ours.close()
            _run_helper(theirs, monitor, run_dir, init, request)
        theirs.close()
        try:
            data, fds = sockets.recv_fds(ours, _MAX_MESSAGE, 8)
            if not data:
                raise EngineError("The helper that makes a process in the container died.")
            message = json.loads(data)
            if "killed" in message:
                os.waitpid(message["killed"], 0)
            if "error" in message:
                raise from_payload(message["error"])
        except BaseException:
            self._end_helper()
            ours.close()
            raise
        self.pid: int = message["pid"]
        self.fds: dict[str, int] = dict(zip(message["fds"], fds, strict=True))
        self.pidfd = self.fds.pop("pidfd")
        self.executed = ours.detach()
        self.on_end = on_end

    def kill(self) -> None:
        try:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def settle(self) -> None:
        """Have the helper end; nothing happens the second time."""
        self.close_executed()
        if self._helper:
            self._end_helper()

    def close_executed(self) -> None:
        if self.executed >= 0:
            os.close(self.executed)
            self.executed = -1

    def _end_helper(self) -> None:
        # As long as we have not reaped it the pid is nobody else's.
        os.kill(self._helper, signal.SIGKILL)
        os.waitpid(self._helper, 0)
        self._helper = 0

    def end(self) -> None:
        """Reap it, blocking until it has ended, and tell who asked for it."""
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        self.on_end(128 - code if code < 0 else code)
        self.settle()
        self.release()
        os.close(self.pidfd)

    def release(self) -> None:
        """Close the far ends that are still ours."""
        for fd in self.fds.values():
            os.close(fd)
        self.fds = {}


class Execs:
    """Those that run now."""

    def __init__(self, run_dir: str) -> None:
        self._run_dir = run_dir
        self._running: dict[int, Exec] = {}  # by their pidfds
        # Those of them that may not have executed yet, by what tells that.
        self._begun: dict[int, Exec] = {}
        self._executed: list[Exec] = []  # those whose helpers still have to end
        self.due = 0.0  # monotonic; when their helpers are to end, if there are any

    def start(self, init: int, request: dict[str, Any], on_end: Callable[[int], None]) -> Exec:
        """`init` is a pidfd of the container's first process. Raises EngineError."""
        made = Exec(self._run_dir, init, request, on_end)
        self._running[made.pidfd] = self._begun[made.executed] = made
        return made

    def serve(self, client: Client, init: int, request: dict[str, Any]) -> None:
        """Answer twice: with the process and the far ends of its descriptors, then with its exit code."""

        def ended(code: int) -> None:
            client.answer({"exit_code": code})

        made = self.start(init, request, ended)
        try:
            client.answer_with({"pid": made.pid, "fds": list(made.fds)}, list(made.fds.values()))
        except OSError:
            made.kill()  # who asked for it has gone
        made.release()

    def fds(self) -> list[int]:
        return [*self._begun, *self._running]

    def ready(self, fd: int) -> None:
        """One of `fds` tells something: a command has been executed, or has ended."""
        if (begun := self._begun.pop(fd, None)) is not None:
            begun.close_executed()
            self._executed.append(begun)
            self.due = self.due or time.monotonic() + _STAY
            return
        made = self._running.pop(fd)
        self._begun.pop(made.executed, None)
        if made in self._executed:
            self._executed.remove(made)
        made.end()

    def tick(self, now: float) -> None:
        """Have the helpers of those end that have been executed for some time."""
        if self.due and now >= self.due:
            self.due = 0.0
            while self._executed:
                self._executed.pop().settle()

    def end_all(self) -> None:
        """They end with the container's first process."""
        while self._running:
            _, made = self._running.popitem()
            made.kill()
            made.end()
        self._begun, self._executed, self.due = {}, [], 0.0


def _run_helper(
    to: sockets.Socket, monitor: int, run_dir: str, init: int, request: dict[str, Any]
) -> NoReturn:
    try:
        _help(to, monitor, run_dir, init, request)
    finally:
        os._exit(1)  # it would go on as a second monitor


def _help(
    to: sockets.Socket, monitor: int, run_dir: str, init: int, request: dict[str, Any]
) -> None:
    pid = 0
    try:
        plan, ends, doors = _join(run_dir, init, request)
        # In the process that the helper leaves its place to, from here on.
        pid = go_on_in_successor(0, monitor)
        # The helper stays outside: it is none of the container's processes, to be counted or frozen with them.
        with error_context("cgroup"):
            walk_in(doors, plan["cgroup"]["version"])
        fds = [("pidfd", _own_pidfd()), *ends.kept]
        message = {"pid": pid, "fds": [name for name, _ in fds]}
        sockets.send_fds(to, json.dumps(message).encode(), [fd for _, fd in fds])
    except EngineError as error:
        payload = error.payload()
    except BaseException as error:  # noqa: BLE001 - the last frame of this process
        failure = EngineError(f"The process could not be made: {type(error).__name__}: {error}")
        payload = failure.payload()
    else:
        _become(plan, ends)
    ended = {"killed": pid} if pid else {}
    to.send(json.dumps({"error": payload, **ended}).encode())


def _own_pidfd() -> int:
    try:
        return os.pidfd_open(os.getpid())
    except OSError as error:
        # Nobody could watch it or end it.
        raise KernelFailure("pidfd_open", error.errno or 0) from error


def _join(run_dir: str, init: int, request: dict[str, Any]) -> tuple[Plan, _Ends, list[int]]:
    """The process's plan, its ends, and the doors of its groups, from the host's root who becomes root inside.

    Raises EngineError, OSError.
    """
    with open(f"{run_dir}/{PLAN_FILE}", "rb") as file:
        plan: Plan = json.loads(file.read())
    for name in _FIELDS:
        if name in request:
            plan[name] = request[name]  # type: ignore[literal-required]
    plan["env"] = [*plan["env"], *request.get("env", ())]
    plan["tty"], plan["stdin"] = bool(request.get("tty")), bool(request.get("stdin"))
    plan["init"] = False
    ends = _Ends(plan)
    doors = open_cgroup(plan["cgroup"]).doors()
    write_oom_score(plan["oom_score_adj"])
    mapped = plan["namespaces"]["user"] != "host"
    if mapped:
        raise_limits(plan)
        ends.give_to(*owner(plan["user_namespace"]))
    forbid_imports()
    syscalls.setns(init, _ALL | c.CLONE_NEWUSER if mapped else _ALL)
    if mapped:
        become_root()
    return plan, ends, doors


class _Ends:
    """Pipes and sockets: `kept` for who asked, the others for the process."""

    def __init__(self, plan: Plan) -> None:
        status, self.status = os.pipe2(os.O_CLOEXEC)
        self.kept = [("status", status)]
        self.stdio: list[int] = []
        self.terminal = -1
        if plan["tty"]:
            ours, theirs = sockets.pair()
            self.terminal = theirs.detach()
            self.kept.append(("terminal", ours.detach()))
            return
        if plan["stdin"]:
            read, write = os.pipe2(os.O_CLOEXEC)
            self.kept.append(("in", write))
        else:
            read = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self.stdio.append(read)
        for name in ("out", "err"):
            read, write = os.pipe2(os.O_CLOEXEC)
            self.kept.append((name, read))
            self.stdio.append(write)

    def give_to(self, uid: int, gid: int) -> None:
        """To the container's root, who gives them to the process's user."""
        for fd in self.stdio:
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                os.fchown(fd, uid, gid)


def _become(plan: Plan, ends: _Ends) -> NoReturn:
    try:
        os.setsid()
        for standard, fd in enumerate(ends.stdio):
            os.dup2(fd, standard)
        for _, fd in ends.kept:
            os.close(fd)
        run_command(plan, status=ends.status, terminal=ends.terminal, first=False)
    except BaseException as error:  # noqa: BLE001 - nothing may escape into the shim's own code
        os._exit(report(ends.status, error))
