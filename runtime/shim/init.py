"""The container's first process, from fork to execve: namespaces, root file system, privileges.

Runs in a single-threaded child of the shim. Every step that can fail names its stage; the error goes to
the shim through `status`, a close-on-exec descriptor, so that its silent end means success.
"""

from __future__ import annotations

import base64
import errno
import json
import os
import resource
import select
import signal
import stat
import sys
from typing import TYPE_CHECKING, NoReturn

from runtime.cgroups import open_cgroup, walk_in
from runtime.errors import EngineError, InitFailed, KernelFailure, error_context
from runtime.kernel import constants as c
from runtime.kernel import mounts, syscalls
from runtime.kernel.capabilities import NAMES
from runtime.kernel.rtnetlink import Rtnetlink
from runtime.shim.reaper import stay_as_init
from runtime.shim.tty import become_controlling
from runtime.shim.user import User, resolve_user

if TYPE_CHECKING:
    from runtime.model.plan import Plan

_OWN = {
    "ipc": c.CLONE_NEWIPC,
    "uts": c.CLONE_NEWUTS,
    "cgroup": c.CLONE_NEWCGROUP,
}
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126


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
            walk_in(doors)
    with error_context("namespaces"):
        _enter_namespaces(plan)
    with error_context("mounts"):
        _build_rootfs(plan, mounted=doors is not None)
    # The starter has ended and the network is there; or the monitor is gone, and nobody wants us.
    if os.read(go, 1) != b"g":
        os._exit(128)
    with error_context("network"):
        if configure_network:
            _configure_network(plan)
    with error_context("sysctls"):
        _write_sysctls(plan)
    if doors is None:
        with error_context("oom_score_adj"):
            write_oom_score(plan["oom_score_adj"])
    with error_context("pivot"):
        forbid_imports()
        mounts.pivot_into(".")
    run_command(plan, status=status, terminal=terminal)


def run_command(plan: Plan, *, status: int, terminal: int) -> NoReturn:
    """The last steps, inside the container: become the plan's user, with its limits and privileges, and
    execute its command. Raises InitFailed, EngineError.
    """
    if terminal >= 0:
        with error_context("tty"):
            become_controlling(terminal)
    user = resolve_user(plan["user"], plan["groups"])
    environment = _environment(plan, user)
    _give_stdio(user)
    _limit_resources(plan)
    # From here on nothing of the host's may be reachable through an inherited descriptor: the class of
    # CVE-2024-21626. `status` closes on exec like all the rest.
    syscalls.close_range(3, 0xFFFFFFFF, c.CLOSE_RANGE_CLOEXEC)
    _reset_signals()
    _change_directory(plan["cwd"])
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


def forbid_imports() -> None:
    """Whatever is imported after pivot_root would be the image's code, run as the host's root."""
    sys.meta_path.clear()
    sys.path.clear()


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


def _enter_namespaces(plan: Plan) -> None:
    flags = c.CLONE_NEWNS
    for name, flag in _OWN.items():
        mode = plan["namespaces"][name]  # type: ignore[literal-required]
        if mode == "own":
            flags |= flag
        elif mode.startswith("pid:"):
            join(mode, name, flag)
    syscalls.unshare(flags)
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
            root = mounts.lay_copy_over(".")
        else:
            mounts.mount_overlay(plan["overlay"])
            root = os.open(plan["overlay"]["rootfs"], c.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for index, step in enumerate(steps):
            mounts.execute(step, root, step.get("tree", shared.pop(index, -1)))
        for path in plan["masked_paths"]:
            mounts.execute({"kind": "mask", "target": path, "optional": True}, root)
        for path in plan["readonly_paths"]:
            step = {"kind": "remount", "target": path, "flags": c.MS_RDONLY, "recursive": True}
            mounts.execute({**step, "optional": True}, root)
        if plan["overlay"]["read_only"]:
            # Last, because mount points are made in it.
            syscalls.mount_setattr(root, "", attr_set=c.MOUNT_ATTR_RDONLY)
        os.chdir(root)
    finally:
        os.close(root)


def _configure_network(plan: Plan) -> None:
    if plan["namespaces"]["network"] != "own":
        return
    with Rtnetlink() as link:
        link.up("lo")
        for interface in plan["interfaces"]:
            name = interface["name"]
            link.add_address(name, interface["address"], interface["prefix_length"])
            if interface.get("address6"):
                link.add_address(name, interface["address6"], interface["prefix_length6"])
            link.up(name)
            if interface["gateway"]:
                link.add_default_route(name, interface["gateway"])
            if interface.get("gateway6"):
                link.add_default_route(name, interface["gateway6"])


def _write_sysctls(plan: Plan) -> None:
    for name, value in plan["sysctls"].items():
        path = "/proc/sys/" + name.replace(".", "/")
        try:
            with open(path, "w", encoding="ascii") as file:
                file.write(value)
        except (OSError, UnicodeError) as error:
            missing = isinstance(error, FileNotFoundError)
            reason = "this kernel has none" if missing else f"the kernel refuses {value!r}"
            raise InitFailed(
                "sysctls",
                f"Cannot set {name}: {reason}.",
                hint="Check its name and value, or leave it out.",
                field=f"security.sysctls.{name}",
            ) from error


def write_oom_score(value: int) -> None:
    """Also 0: it must not be the one that the platform's own processes have."""
    fd = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
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


def _limit_resources(plan: Plan) -> None:
    for name, soft, hard in plan["rlimits"]:
        number = getattr(resource, f"RLIMIT_{name.upper()}", None)
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
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


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


def _set_apparmor(profile: str) -> None:
    try:
        with open("/proc/self/attr/apparmor/exec", "w", encoding="ascii") as file:
            file.write(f"exec {profile}")
    except OSError as error:
        raise InitFailed(
            "apparmor",
            f"The AppArmor profile {profile!r} cannot be applied: {error.strerror}.",
            hint="Load it on the host, or leave the profile out where there is no AppArmor.",
            field="security.apparmor",
        ) from error


def _change_directory(cwd: str) -> None:
    """Enter it, made when absent, as root does for `docker run --workdir`."""
    try:
        os.makedirs(cwd, exist_ok=True)
        os.chdir(cwd)
    except OSError as error:
        raise InitFailed(
            "cwd",
            f"The working directory {cwd} cannot be entered: {error.strerror}.",
            exit_code=126,
            hint="Choose a directory; on a read-only root it must exist in the image.",
            field="process.cwd",
        ) from error
    # The kernel says so when a directory lies outside our root (CVE-2024-21626).
    if not os.getcwd().startswith("/"):
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
