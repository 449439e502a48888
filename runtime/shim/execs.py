"""Further processes in a running container: what `exec` asks for, and health checks.

A short-lived helper joins the container's namespaces and forks the process as the monitor's own child
(see starter.py); what that costs in memory goes with it.
"""

from __future__ import annotations

import json
import os
import signal
import stat
from typing import TYPE_CHECKING, Any, NoReturn

from runtime.cgroups import open_cgroup
from runtime.errors import EngineError, KernelFailure, from_payload
from runtime.kernel import constants as c
from runtime.kernel import syscalls
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


class Exec:
    """One process; `fds` are the far ends of its descriptors, by name, for whoever asked for it.

    "status" ends silently once the command runs, or carries the error; with a terminal "terminal" is a
    socket that hands over the master side, without one there are "out", "err" and perhaps "in".
    """

    def __init__(
        self, run_dir: str, init: int, request: dict[str, Any], on_end: Callable[[int], None]
    ) -> None:
        ours, theirs = sockets.pair(sockets.SOCK_SEQPACKET)
        helper = os.fork()
        if helper == 0:
            ours.close()
            _run_helper(theirs, run_dir, init, request)
        theirs.close()
        try:
            data, fds = sockets.recv_fds(ours, _MAX_MESSAGE, 8)
        finally:
            os.waitpid(helper, 0)
            ours.close()
        if not data:
            raise EngineError("The helper that makes a process in the container died.")
        message = json.loads(data)
        if "killed" in message:
            os.waitpid(message["killed"], 0)
        if "error" in message:
            raise from_payload(message["error"])
        self.pid: int = message["pid"]
        self.fds: dict[str, int] = dict(zip(message["fds"], fds, strict=True))
        self.pidfd = self.fds.pop("pidfd")
        self.on_end = on_end

    def kill(self) -> None:
        try:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def end(self) -> None:
        """Reap it, blocking until it has ended, and tell who asked for it."""
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        self.on_end(128 - code if code < 0 else code)
        self.release()
        os.close(self.pidfd)

    def release(self) -> None:
        """Close the far ends that are still ours."""
        for fd in self.fds.values():
            os.close(fd)
        self.fds = {}


class Execs:
    """Those that run now, by their pidfds."""

    def __init__(self, run_dir: str) -> None:
        self._run_dir = run_dir
        self._running: dict[int, Exec] = {}

    def start(self, init: int, request: dict[str, Any], on_end: Callable[[int], None]) -> Exec:
        """`init` is a pidfd of the container's first process. Raises EngineError."""
        made = Exec(self._run_dir, init, request, on_end)
        self._running[made.pidfd] = made
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
        return list(self._running)

    def reap(self, pidfd: int) -> None:
        self._running.pop(pidfd).end()

    def end_all(self) -> None:
        """They end with the container's first process."""
        while self._running:
            _, made = self._running.popitem()
            made.kill()
            made.end()


def _run_helper(to: sockets.Socket, run_dir: str, init: int, request: dict[str, Any]) -> NoReturn:
    message: dict[str, Any]
    fds: list[int] = []
    try:
        message, fds = _join_and_fork(run_dir, init, request)
    except EngineError as error:
        message = {"error": error.payload()}
    except BaseException as error:  # noqa: BLE001 - the last frame of this process
        failure = EngineError(f"The process could not be made: {type(error).__name__}: {error}")
        message = {"error": failure.payload()}
    sockets.send_fds(to, json.dumps(message).encode(), fds)
    os._exit(0)


def _join_and_fork(
    run_dir: str, init: int, request: dict[str, Any]
) -> tuple[dict[str, Any], list[int]]:
    with open(f"{run_dir}/{PLAN_FILE}", "rb") as file:
        plan: Plan = json.loads(file.read())
    for name in _FIELDS:
        if name in request:
            plan[name] = request[name]  # type: ignore[literal-required]
    plan["env"] = [*plan["env"], *request.get("env", ())]
    plan["tty"], plan["stdin"] = bool(request.get("tty")), bool(request.get("stdin"))
    plan["init"] = False
    ends = _Ends(plan)
    open_cgroup(plan["cgroup"]).enter()
    write_oom_score(plan["oom_score_adj"])
    mapped = plan["namespaces"]["user"] != "host"
    if mapped:
        raise_limits(plan)
        ends.give_to(*owner(plan["user_namespace"]))
    forbid_imports()
    syscalls.setns(init, _ALL | c.CLONE_NEWUSER if mapped else _ALL)
    if mapped:
        become_root()
    pid = syscalls.fork_sibling()
    if pid == 0:
        _become(plan, ends)
    ends.close_given()
    try:
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        # Nobody could watch it or end it.
        os.kill(pid, signal.SIGKILL)
        failure = KernelFailure("pidfd_open", error.errno or 0)
        return {"error": failure.payload(), "killed": pid}, []
    fds = [("pidfd", pidfd), *ends.kept]
    return {"pid": pid, "fds": [name for name, _ in fds]}, [fd for _, fd in fds]


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

    def close_given(self) -> None:
        for fd in (self.status, self.terminal, *self.stdio):
            if fd >= 0:
                os.close(fd)


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
