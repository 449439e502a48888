"""The runtime's own program and processes, in reach of the container they serve.

- CVE-2019-5736 (runc): `/proc/self/exe` as an image's command made runc execute itself inside; the image's loader
  then held the host's runc, and wrote to it.
- CVE-2016-9962 (runc): who joins a container can be traced, or looked into through
  /proc, before its execve.

Here the runtime is Python, and what runs inside before its execve is a fork of the launcher:

- `runtime/launcher/interpreter.py`: the launcher executes its interpreter from a detached mount that is read-only, and
  forbids execution from it afterwards. `/proc/self/exe` cannot be executed, and a descriptor of it changes nothing.
- `runtime/launcher/server.py` and `stay_closed` in `runtime/shim/command.py`: all forks are non-dumpable until
  their execve. In a user namespace not even CAP_SYS_PTRACE helps: their memory belongs to the host's.
- `runtime/shim/init.py` forbids imports before anything of the image's is in reach.

Not defended: userns=host together with SYS_PTRACE lets a container trace the process of an `exec` before it
has dropped to the container's privileges. That is what the two ask for.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from runtime.errors import InitFailed
from runtime.model.spec import Namespaces, Security
from runtime.shim.client import ShimClient
from tests.support.elf import AT_FDCWD, RESULT, program, supported
from tests.support.engine import Instance
from tests.support.escape import Kind, box, image, says
from tests.support.options import Seen
from tests.support.waiting import PATIENCE, wait_until

INTERPRETER = Path(sys.executable).resolve()
REAPER = b"/proc/1/exe"
# Setting what is set already changes nothing of the host's, should it succeed.
MODE = INTERPRETER.stat().st_mode & 0o7777
MANY = 20_000
LONG = "/n:" * 10_000  # a PATH that takes a while to be tried
ATTACKS = {
    "write": (("open", REAPER, os.O_WRONLY),),
    "append": (("open", REAPER, os.O_RDWR | os.O_APPEND),),
    "mode": (("fchmodat", AT_FDCWD, REAPER, MODE),),
    "owner": (("fchownat", AT_FDCWD, REAPER, 0, 0, 0),),
    "attribute": (("removexattr", REAPER, b"user.slipway-test"),),
    "held": (("open", REAPER, os.O_RDONLY), ("fchmod", RESULT, MODE)),
}
# Each makes a process of ours execute itself. What the interpreter's loader is, the image decides.
WAYS: dict[str, str | bytes] = {
    "/proc/self/exe": "",
    "/proc/thread-self/exe": "",
    "/bin/link": "-> /proc/self/exe",
    "/bin/script": "#!/proc/self/exe\n",
    "/bin/nested": "#!/bin/script\n",
    "/bin/program": program(("getpid",), interpreter="/proc/self/exe"),
}

pytestmark = pytest.mark.skipif(not supported, reason="attacks are made of x86-64 code")


@pytest.fixture(scope="module")
def evil(instance: Instance) -> str:
    """An image with every way, in which whatever is executed with the host's loader's name tells."""
    files: dict[str, str | bytes] = {
        path.lstrip("/"): content for path, content in WAYS.items() if content
    }
    told = program(("creat", b"/executed", 0o644))
    return image(
        instance,
        {
            **files,
            loader_of(INTERPRETER).lstrip("/"): told,
            **{f"attack/{name}": program(*calls) for name, calls in ATTACKS.items()},
        },
    )


@pytest.fixture(scope="module")
def slow(instance: Instance) -> str:
    """An image whose users take a while to look through."""
    many = "".join(f"user{n}:x:{n}:{n}::/:/bin/sh\n" for n in range(MANY))
    return image(instance, {"etc/passwd": f"root:x:0:0:root:/root:/bin/sh\n{many}"})


def loader_of(path: Path) -> str:
    """The ELF interpreter that a program names."""
    head = path.read_bytes()[:8192]
    start = head.index(b"/lib")
    return head[start : head.index(b"\0", start)].decode()


def ours(seen: Seen) -> list[int]:
    """Processes in the container that have not executed anything yet."""
    pids = seen.instance.engine.cgroups.open(seen.spec.id).pids()
    return [pid for pid in pids if runs(pid) == INTERPRETER]


def runs(pid: int) -> Path | None:
    try:
        return Path(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return None


@pytest.mark.parametrize("way", WAYS)
def test_it_cannot_be_executed(instance: Instance, userns: Kind, evil: str, way: str) -> None:
    """Neither by a container's first process nor by a further one."""
    spec = instance.create(
        instance.spec(way, image=evil, security=Security(userns=userns), process={"init": False})
    )
    with pytest.raises(InitFailed, match="cannot be executed") as caught:
        instance.engine.start(spec.id)
    assert caught.value.exit_code == 126
    seen = box(instance, image=evil, userns=userns)
    with pytest.raises(InitFailed, match="cannot be executed"):
        ShimClient(instance.config, seen.spec.id).exec([way])
    assert says(seen, "ls /executed 2>/dev/null") == ""


@pytest.mark.parametrize("privilege", [(), ("SYS_PTRACE",)], ids=["default", "SYS_PTRACE"])
def test_it_cannot_be_changed(
    instance: Instance, userns: Kind, evil: str, privilege: tuple[str, ...]
) -> None:
    """Through the init that reaps, which is ours for the whole life of the container."""
    seen = box(
        instance, image=evil, userns=userns, process={"init": True}, security={"cap_add": privilege}
    )
    assert runs(seen.pid) == INTERPRETER
    before = INTERPRETER.stat()
    # With SYS_PTRACE on the host's ids it is found, and is on a mount that cannot be written to.
    refused = errno.EROFS if userns and privilege else errno.EACCES
    for name in ATTACKS:
        code = says(seen, f"/attack/{name}; echo $?")
        allowed = {refused, errno.ETXTBSY} if name in ("write", "append") else {refused}
        assert int(code) in allowed, (name, code)
    after = INTERPRETER.stat()
    assert (after.st_mode, after.st_ctime_ns) == (before.st_mode, before.st_ctime_ns)


def test_nobody_looks_into_the_init_that_reaps(instance: Instance, userns: Kind) -> None:
    """Its memory is a fork of the launcher's."""
    seen = box(instance, userns=userns, process={"init": True})
    for name in ("exe", "mem", "environ", "maps", "auxv", "root/.", "cwd/.", "fd/0", "ns/mnt"):
        told = says(seen, f"head -c 1 /proc/1/{name} | wc -c; ls -l /proc/1/{name}")
        assert told.splitlines()[0].endswith("denied"), (name, told)
        assert str(INTERPRETER) not in told, (name, told)
    # The kernel's own mark of a process that is not dumpable.
    assert os.stat(f"/proc/{seen.pid}/exe", follow_symlinks=False).st_uid == 0
    assert os.stat(f"/proc/{seen.pid}/mem").st_uid == 0


_WATCH = """
    while true; do for p in /proc/[0-9]*; do
        read name < $p/comm || continue
        case $name in slw-*) ;; *) continue;; esac
        echo "saw $p"
        for file in exe mem environ fd/0 fd/1 root/etc/passwd cwd/proc; do
            true < $p/$file || continue
            # Unless it is executing the command, and is one of the container's own by now: the kernel
            # exchanges the memory, and with it the program, a moment before the name.
            case $(readlink $p/exe) in /bin/busybox) continue;; esac
            read name < $p/comm && case $name in slw-*) echo "opened $file";; esac
        done
    done; done 2>/dev/null
"""


@pytest.mark.parametrize("stage", ["before", "after"])
@pytest.mark.parametrize("privilege", [(), ("SYS_PTRACE",)], ids=["default", "SYS_PTRACE"])
def test_nobody_looks_into_a_process_that_joins(
    instance: Instance, userns: Kind, slow: str, stage: str, privilege: tuple[str, ...]
) -> None:
    """Neither before nor after it has dropped its privileges: both are made to take long enough to be seen."""
    if userns and privilege:
        pytest.skip("userns=host with SYS_PTRACE may look into it")
    # A long list of users is read before, a long PATH is tried after.
    path = "PATH=" + (LONG if stage == "after" else "") + "/bin"
    seen = box(
        instance,
        _WATCH,
        image=slow,
        userns=userns,
        process={"env": (path,)},
        security={"cap_add": privilege},
    )
    shim = ShimClient(instance.config, seen.spec.id)
    user = {} if stage == "after" else {"user": "user19999"}
    for _ in range(3):
        with shim.exec(["/bin/true" if stage == "before" else "true"], **user) as session:
            assert session.wait(10 * PATIENCE) == 0
    instance.wait_for_output(seen.spec, "saw /proc/")
    assert "opened" not in instance.output(seen.spec)


def test_nobody_looks_into_the_first_process_of_another_container(
    instance: Instance, userns: Kind, slow: str
) -> None:
    """One that shares the pid namespace sees it before its execve."""
    seen = box(instance, _WATCH, image=slow, userns=userns)
    path = "PATH=" + LONG + "/bin"
    modes = Namespaces(network="none", pid=f"container:{seen.spec.id}")
    other = box(
        instance,
        image=slow,
        userns=userns,
        namespaces=modes,
        process={"env": (path,)},
    )
    assert os.readlink(f"/proc/{other.pid}/ns/pid") == seen.namespace("pid")
    instance.wait_for_output(seen.spec, "saw /proc/")
    assert "opened" not in instance.output(seen.spec)
    instance.engine.kill(other.spec.id, "KILL")


def test_what_runs_is_the_image_s_alone(instance: Instance, userns: Kind) -> None:
    """After the execve nothing of ours is left inside: no process, no mapping."""
    seen = box(instance, userns=userns)
    maps = wait_until(
        lambda: text if "/bin/busybox" in (text := seen.proc("maps")) else None, what="its execve"
    )
    assert "python" not in maps
    assert not ours(seen)
