"""The last steps of a process of the container, inside it: terminal, user, limits, privileges, execve.

Every step that can fail names its stage, as in init.py.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # the functions without the enumerations around them, which take 0.2 ms
import base64
import errno
import os
import resource
import select
import signal
import stat
from typing import TYPE_CHECKING, Any, NoReturn

from runtime.errors import InitFailed, KernelFailure, error_context
from runtime.kernel import constants as c
from runtime.kernel import procfs, syscalls
from runtime.kernel.capabilities import ALL, NAMES
from runtime.kernel.rlimits import number_of
from runtime.shim.naming import become_init
from runtime.shim.reaper import stay_as_init
from runtime.shim.tty import become_controlling
from runtime.shim.user import User, resolve_user

if TYPE_CHECKING:
    from runtime.model.plan import Plan

_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
UMASK = 0o022  # Docker's; that of whoever started the platform is no concern of containers


def run_command(plan: Plan, *, status: int, terminal: int, first: bool = True) -> NoReturn:
    """The last steps, inside the container: become the plan's user, with its limits and privileges, and
    execute its command. The container's `first` process makes its directory, and has its terminal as console.
    Raises InitFailed, EngineError.
    """
    os.umask(UMASK)
    if terminal >= 0:
        with error_context("tty"):
            become_controlling(terminal, console=first)
    user = resolve_user(plan["user"], plan["groups"])
    _check_ids(plan, user)
    environment = _environment(plan, user)
    _give_stdio(user)
    _limit_resources(plan)
    # From here on nothing of the host's may be reachable through an inherited descriptor: the class of
    # CVE-2024-21626. `status` closes on exec like all the rest.
    syscalls.close_range(3, 0xFFFFFFFF, c.CLOSE_RANGE_CLOEXEC)
    _reset_signals()
    if plan["init"]:
        become_init()  # before a filter of system calls that may not let it
    _change_directory(plan["cwd"], make=first)
    with error_context("privileges"):
        _drop_privileges(plan, user)
        # When the monitor dies nobody supervises us: die with it. Set here because a change of
        # credentials clears it, and nobody must have died meanwhile.
        syscalls.prctl(c.PR_SET_PDEATHSIG, signal.SIGKILL)
        if _is_abandoned(status):
            os._exit(128)
    if plan["init"]:
        stay_as_init()
    execute(plan["args"], environment)


def rehearse() -> None:
    """Steps of `run_command` as root of a user namespace, to no effect: its memory is its own then, and nothing of it is
    new, when a start waits for it.
    """
    user = resolve_user("", [])
    everything = {
        "bounding": ALL,
        "permitted": ALL,
        "effective": ALL,
        "inheritable": 0,
        "ambient": 0,
    }
    plan: Any = {
        "env": ["A=b"],
        "namespaces": {"user": "own"},
        "user_namespace": {"uids": [{"size": 1}]},
        "capabilities": everything,
        "seccomp": "",
        "apparmor": "",
        "no_new_privileges": False,
    }
    _check_ids(plan, user)
    _environment(plan, user)
    _reset_signals()
    _change_directory("/", make=True)
    _drop_privileges(plan, user)


def _check_ids(plan: Plan, user: User) -> None:
    mapping = plan["user_namespace"]
    if mapping is None or plan["namespaces"]["user"] == "host":
        return
    last = mapping["uids"][0]["size"] - 1
    if largest := [i for i in (user.uid, *user.groups) if i > last]:
        raise InitFailed(
            "user",
            f"The container's user namespace ends at the id {last}: there is no {largest[0]}.",
            exit_code=126,
            hint="Choose userns=host, or give the installation more ids (SLIPWAY_USERNS).",
            field="process.user",
        )


def _is_abandoned(status: int) -> bool:
    """The reading end of the pipe is closed: there is no monitor."""
    poller = select.poll()
    poller.register(status, 0)
    return bool(poller.poll(0))


def _give_stdio(user: User) -> None:
    """Let the user open /dev/stdout and the like anew, as programs that log to a file's name do."""
    for fd in (0, 1, 2):
        if not stat.S_ISCHR(os.fstat(fd).st_mode) or os.isatty(fd):
            os.fchown(fd, user.uid, -1)


def _limit_resources(plan: Plan) -> None:
    for name, soft, hard in plan["rlimits"]:
        number = number_of(name)
        if number is None:
            raise InitFailed("rlimits", f"This kernel has no resource limit {name!r}.")
        try:
            resource.setrlimit(number, (soft, hard))
        except (ValueError, OSError) as error:
            raise InitFailed(
                "rlimits",
                f"Cannot limit {name} to {soft}:{hard}: {error}.",
                hint="Raising a hard limit above the host's requires CAP_SYS_RESOURCE.",
                field="ulimits",
            ) from error


def _reset_signals() -> None:
    # What the interpreter, or who started the platform, ignores would stay ignored across execve.
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def _drop_privileges(plan: Plan, user: User) -> None:
    caps = plan["capabilities"]
    program = base64.b64decode(plan["seccomp"]) if plan["seccomp"] else None
    if plan["apparmor"]:
        _set_apparmor(plan["apparmor"])
    if program and not plan["no_new_privileges"]:
        # Without no_new_privs loading a filter takes CAP_SYS_ADMIN, which is about to go.
        syscalls.seccomp_set_filter(program)
    for number in range(len(NAMES)):
        if not caps["bounding"] >> number & 1:
            try:
                syscalls.prctl(c.PR_CAPBSET_DROP, number)
            except KernelFailure as error:
                if error.errno != errno.EINVAL:
                    raise
                break  # this kernel knows fewer capabilities
    syscalls.prctl(c.PR_SET_KEEPCAPS, 1)
    os.setgroups(user.groups)
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    stay_closed()
    # As execve would: a user who is not root keeps only what is inheritable and ambient.
    held = caps["permitted"] if user.uid == 0 else caps["ambient"]
    syscalls.capset(held & caps["effective"], held, caps["inheritable"] & held)
    for number in range(len(NAMES)):
        if caps["ambient"] >> number & 1:
            syscalls.prctl(c.PR_CAP_AMBIENT, c.PR_CAP_AMBIENT_RAISE, number)
    if plan["no_new_privileges"]:
        syscalls.prctl(c.PR_SET_NO_NEW_PRIVS, 1)
        if program:
            syscalls.seccomp_set_filter(program)


def stay_closed() -> None:
    """After a change of credentials, which sets this to the host's fs.suid_dumpable: until the execve nobody
    inside may trace us, or open what is ours in /proc (CVE-2016-9962).
    """
    syscalls.prctl(c.PR_SET_DUMPABLE, 0)


def _set_apparmor(profile: str) -> None:
    try:
        fd = procfs.open_own("attr/apparmor/exec", os.O_WRONLY)
        os.write(fd, f"exec {profile}".encode("ascii"))
        os.close(fd)
    except (KernelFailure, OSError) as error:
        raise InitFailed(
            "apparmor",
            f"The AppArmor profile {profile!r} cannot be applied: {os.strerror(error.errno or 0)}.",
            hint="Load it on the host, or leave the profile out where there is no AppArmor.",
            field="security.apparmor",
        ) from error


def _change_directory(cwd: str, *, make: bool) -> None:
    """Enter it, made as root when absent for `docker run --workdir`, but not for `docker exec --workdir`."""
    try:
        if make:
            os.makedirs(cwd, exist_ok=True)
        os.chdir(cwd)
        now = os.getcwd()
    except OSError as error:
        raise InitFailed(
            "cwd",
            f"The working directory {cwd} cannot be entered: {error.strerror}.",
            exit_code=126,
            hint="Choose a directory; on a read-only root it must exist in the image.",
            field="process.cwd",
        ) from error
    # The kernel says so when a directory lies outside our root (CVE-2024-21626).
    if not now.startswith("/"):
        raise InitFailed("cwd", f"{cwd} lies outside the container.", exit_code=126)


def _environment(plan: Plan, user: User) -> dict[str, str]:
    env = dict(pair.split("=", 1) for pair in plan["env"] if "=" in pair)
    env.setdefault("HOME", user.home)
    return env


def execute(args: list[str], environment: dict[str, str]) -> NoReturn:
    """execve, found through PATH. Raises InitFailed("exec") with `docker run`'s exit codes 127 and 126."""
    command = args[0]
    if "/" in command:
        candidates = [command]
    else:
        path = environment.get("PATH", "")
        candidates = [f"{directory or '.'}/{command}" for directory in path.split(":")]
    failure: OSError | None = None
    found = False
    for candidate in candidates:
        try:
            os.execve(candidate, args, environment)
        except (FileNotFoundError, NotADirectoryError):
            # Also said of a program whose interpreter or loader is missing.
            found = found or os.path.lexists(candidate)
        except OSError as error:
            failure = failure or error
    if failure is not None:
        raise InitFailed(
            "exec",
            f"{command} is there but cannot be executed: {failure.strerror}.",
            exit_code=_NOT_EXECUTABLE,
            hint="Check its mode, its architecture and the user it runs as.",
            field="command",
        )
    if found:
        raise InitFailed(
            "exec",
            f"{command} is there, but the interpreter it names is not.",
            exit_code=_NOT_FOUND,
            hint="Its first line or its loader points to a file the image lacks.",
            field="command",
        )
    where = "" if "/" in command else " on its PATH"
    raise InitFailed(
        "exec",
        f"The image has no {command}{where}.",
        exit_code=_NOT_FOUND,
        hint="Check the command's spelling, or give its full path in the image.",
        field="command",
    )
