"""Further processes in a container: `exec` and health checks."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import BadState, InitFailed
from runtime.model.plan import Plan
from runtime.model.spec import Health, Limits, Restart, Security
from runtime.model.state import HealthState, Status
from tests.support.launching import Launchpad
from tests.support.waiting import PATIENCE, wait_until

MIB = 2**20


@pytest.fixture
def pad() -> Iterator[Launchpad]:
    with Launchpad() as made:
        yield made


def run(pad: Launchpad, plan: Plan, *args: str, **options: Any) -> tuple[int, str]:
    """Exit code and stdout of a process in the container."""
    with pad.shim(plan).exec(args, **options) as session:
        with os.fdopen(os.dup(session.stdout), "rb") as stream:
            output = stream.read().decode()
        return session.wait(10 * PATIENCE), output.strip()


@pytest.fixture
def plan(pad: Launchpad) -> Plan:
    """A container that runs."""
    made = pad.plan("sleep", "1000", process={"env": ("OWN=1",)}, limits=Limits(memory=64 * MIB))
    pad.start(made)
    return made


# -- exec ----------------------------------------------------------------------------------------


def test_it_runs_beside_the_container_s_own(pad: Launchpad, plan: Plan) -> None:
    assert run(pad, plan, "cat", "/proc/1/comm") == (0, "sleep")
    inside = pad.shim(plan).state().pid
    for kind in ("pid", "mnt", "net", "uts", "ipc", "cgroup"):
        seen = run(pad, plan, "readlink", f"/proc/self/ns/{kind}")[1]
        assert seen == os.readlink(f"/proc/{inside}/ns/{kind}")


def test_its_exit_code_is_its_own(pad: Launchpad, plan: Plan) -> None:
    assert run(pad, plan, "sh", "-c", "exit 7")[0] == 7
    assert run(pad, plan, "sh", "-c", "kill -9 $$")[0] == 137


def test_stderr_is_apart(pad: Launchpad, plan: Plan) -> None:
    with pad.shim(plan).exec(["sh", "-c", "echo out; echo err >&2"]) as session:
        assert session.wait(10 * PATIENCE) == 0
        assert (os.read(session.stdout, 99), os.read(session.stderr, 99)) == (b"out\n", b"err\n")


def test_it_can_be_written_to(pad: Launchpad, plan: Plan) -> None:
    with pad.shim(plan).exec(["cat"], stdin=True) as session:
        os.write(session.stdin, b"hello\n")
        os.close(session.stdin)
        session.stdin = -1
        assert session.wait(10 * PATIENCE) == 0
        assert os.read(session.stdout, 99) == b"hello\n"


def test_it_has_a_terminal_when_asked_for(pad: Launchpad, plan: Plan) -> None:
    with pad.shim(plan).exec(["sh", "-c", "tty; test -t 0 && echo yes"], tty=True) as session:
        assert session.wait(10 * PATIENCE) == 0
        assert os.read(session.terminal, 99) == b"/dev/pts/0\r\nyes\r\n"


def test_user_environment_and_directory_can_be_others(pad: Launchpad, plan: Plan) -> None:
    script = "id -u; pwd; echo $OWN $MORE"
    options = {"user": "app", "cwd": "/tmp", "env": ["MORE=2"]}
    assert run(pad, plan, "sh", "-c", script, **options)[1].split() == ["1234", "/tmp", "1", "2"]


def test_it_has_no_more_than_the_container_has(pad: Launchpad, plan: Plan) -> None:
    status = run(pad, plan, "cat", "/proc/self/status")[1]
    own = run(pad, plan, "cat", "/proc/1/status")[1]
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "Seccomp", "NoNewPrivs"):
        lines = [next(li for li in s.splitlines() if li.startswith(name)) for s in (status, own)]
        assert lines[0] == lines[1]
    assert run(pad, plan, "sh", "-c", "mount -t tmpfs x /tmp")[0] != 0


def test_no_new_privileges_holds_for_it(pad: Launchpad) -> None:
    plan = pad.plan("sleep", "1000", security=Security(no_new_privileges=True))
    pad.start(plan)
    assert run(pad, plan, "grep", "NoNewPrivs", "/proc/self/status")[1].split()[1] == "1"


def test_it_is_in_the_container_s_groups(pad: Launchpad, plan: Plan) -> None:
    with pad.shim(plan).exec(["sleep", "1000"]) as session:
        assert session.pid in pad.processes("containers/")


def test_what_makes_it_is_none_of_the_container_s_processes(pad: Launchpad) -> None:
    """It stays for a moment: the container may have no more than two processes, and is paused meanwhile."""
    plan = pad.plan("sleep", "1000", limits=Limits(pids=2))
    init = pad.start(plan).pid
    with pad.shim(plan).exec(["sleep", "1000"]) as session:
        assert sorted(pad.processes("containers/")) == sorted((init, session.pid))
        pad.shim(plan).pause()
        pad.shim(plan).unpause()
        assert pad.shim(plan).state().status == "running"


@pytest.mark.timeout(60)
def test_a_pause_right_behind_it_does_not_hold_the_monitor(pad: Launchpad, plan: Plan) -> None:
    """On v1 what is frozen does not end: a helper frozen with its command would be waited for until the container goes
    on, and nobody but who waits can have it go on.
    """
    # In one go, so that the monitor pauses before it looks after the helper; in between, the command is executed.
    between = [{"op": "update"}] * 2000
    requests = [{"op": "exec", "args": ["sleep", "1000"]}, *between, {"op": "pause"}]
    shim = pad.shim(plan)
    state = shim.state()
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(f"{plan['run_dir']}/shim.sock")
        channel.sendall(b"".join(json.dumps(each).encode() + b"\n" for each in requests))
        said, fds, _, _ = socket.recv_fds(channel, 65536, 8)
        command = json.loads(said.splitlines()[0])["result"]["pid"]
        wait_until(lambda: shim.state().status == Status.PAUSED, what="the pause")
        shim.unpause()
        assert shim.state().status == Status.RUNNING
        wait_until(
            lambda: sorted(children_of(state.shim_pid)) == sorted((state.pid, command)),
            what="the helper to end",
        )
        os.kill(command, signal.SIGKILL)
        wait_until(
            lambda: children_of(state.shim_pid) == [state.pid], what="the command to be reaped"
        )
        for fd in fds:
            os.close(fd)


def test_what_has_made_it_ends_soon(pad: Launchpad, plan: Plan) -> None:
    state = pad.shim(plan).state()
    with pad.shim(plan).exec(["sleep", "1000"]) as session:
        wait_until(
            lambda: sorted(children_of(state.shim_pid)) == sorted((state.pid, session.pid)),
            what="the helper to end",
        )


def children_of(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_no_descriptor_leaks_into_it(pad: Launchpad, plan: Plan) -> None:
    # 3 is the directory that it reads.
    assert run(pad, plan, "ls", "/proc/self/fd")[1].split() == ["0", "1", "2", "3"]


@pytest.mark.parametrize("number", range(3, 16))
def test_no_descriptor_is_a_way_out(pad: Launchpad, plan: Plan, number: int) -> None:
    try:
        code, text = run(pad, plan, "ls", "-a", ".", cwd=f"/proc/self/fd/{number}/..")
    except InitFailed:
        return
    assert code != 0 or "home" in text


@pytest.mark.parametrize(("command", "code"), [("missing", 127), ("/etc/passwd", 126)])
def test_what_cannot_run_says_why(pad: Launchpad, plan: Plan, command: str, code: int) -> None:
    with pytest.raises(InitFailed, match=command) as caught:
        pad.shim(plan).exec([command])
    assert caught.value.exit_code == code


def test_its_directory_is_not_made(pad: Launchpad, plan: Plan) -> None:
    with pytest.raises(InitFailed, match="/no/such/dir"):
        pad.shim(plan).exec(["true"], cwd="/no/such/dir")
    assert run(pad, plan, "ls", "/no")[0] != 0


def test_nonsense_is_refused(pad: Launchpad, plan: Plan) -> None:
    with pytest.raises(InitFailed, match="ghost"):
        pad.shim(plan).exec(["true"], user="ghost")
    assert run(pad, plan, "true")[0] == 0


def test_it_ends_with_the_container(pad: Launchpad, plan: Plan) -> None:
    with pad.shim(plan).exec(["sleep", "1000"]) as session:
        record = pad.shim(plan).stop(signal.SIGKILL, 0)
        assert record.code == 137
        assert session.wait(5 * PATIENCE) == 137


def test_who_asked_for_it_may_go(pad: Launchpad, plan: Plan) -> None:
    session = pad.shim(plan).exec(["sh", "-c", "sleep 0.2; touch /done"])
    session.close()
    wait_until(lambda: (Path(plan["overlay"]["upper"]) / "done").exists(), what="it to go on")
    assert run(pad, plan, "true")[0] == 0


def test_a_paused_container_takes_none(pad: Launchpad, plan: Plan) -> None:
    pad.shim(plan).pause()
    with pytest.raises(BadState) as caught:
        pad.shim(plan).exec(["true"])
    assert caught.value.extra["allowed"] == list(Status.PAUSED.actions)
    pad.shim(plan).unpause()


def test_many_leave_nothing(pad: Launchpad, plan: Plan) -> None:
    state = pad.shim(plan).state()
    before = os.listdir(f"/proc/{state.shim_pid}/fd")
    for _ in range(20):
        assert run(pad, plan, "true")[0] == 0
    # The last helper ends after its command's end has been told.
    wait_until(lambda: children_of(state.shim_pid) == [state.pid], what="every helper to be reaped")

    def as_before() -> bool:
        return len(os.listdir(f"/proc/{state.shim_pid}/fd")) <= len(before)

    wait_until(as_before, what="every descriptor to be closed")


# -- health --------------------------------------------------------------------------------------


def check(script: str, **options: Any) -> Health:
    defaults = {"interval": 0.05, "timeout": 5.0, "retries": 2}
    return Health(("sh", "-c", script), **{**defaults, **options})


def wait_for_health(pad: Launchpad, plan: Plan, status: str) -> HealthState:
    return wait_until(
        lambda: h if (h := pad.shim(plan).state().health).status == status else None,
        what=f"it to be {status}",
    )


def test_a_container_becomes_healthy(pad: Launchpad) -> None:
    plan = pad.plan("sleep", "1000", health=check("echo fine; echo really >&2"))
    assert pad.start(plan).health.status == "starting"
    health = wait_for_health(pad, plan, "healthy")
    assert (health.log[-1]["exit_code"], health.failing_streak) == (0, 0)
    assert sorted(str(health.log[-1]["output"]).split()) == ["fine", "really"]


def test_it_is_unhealthy_after_its_retries_and_can_recover(pad: Launchpad) -> None:
    plan = pad.plan("sleep", "1000", health=check("test -e /good"))
    pad.start(plan)
    health = wait_for_health(pad, plan, "unhealthy")
    assert health.failing_streak >= 2
    assert run(pad, plan, "touch", "/good")[0] == 0
    assert wait_for_health(pad, plan, "healthy").failing_streak == 0
    assert len(pad.shim(plan).state().health.log) <= 5


def test_failures_do_not_count_while_it_starts(pad: Launchpad) -> None:
    health = check("test -e /good", retries=1, start_period=30.0, start_interval=0.05)
    plan = pad.plan("sleep", "1000", health=health)
    pad.start(plan)
    wait_until(lambda: len(pad.shim(plan).state().health.log) >= 3, what="some failures")
    assert pad.shim(plan).state().health.status == "starting"
    assert run(pad, plan, "touch", "/good")[0] == 0
    wait_for_health(pad, plan, "healthy")


def test_a_check_that_hangs_is_a_failure(pad: Launchpad) -> None:
    plan = pad.plan("sleep", "1000", health=check("sleep 1000", timeout=0.1, retries=1))
    pad.start(plan)
    health = wait_for_health(pad, plan, "unhealthy")
    assert health.log[-1]["exit_code"] == -1
    assert "longer than 0.1 s" in str(health.log[-1]["output"])
    assert pad.shim(plan).stop(None, 0).code == 137


def test_a_check_that_cannot_run_is_a_failure_with_its_reason(pad: Launchpad) -> None:
    plan = pad.plan("sleep", "1000", health=Health(("missing",), interval=0.05, retries=1))
    pad.start(plan)
    health = wait_for_health(pad, plan, "unhealthy")
    assert health.log[-1]["exit_code"] == 127
    assert "has no missing" in str(health.log[-1]["output"])


def test_every_life_starts_anew(pad: Launchpad) -> None:
    plan = pad.plan("sleep", "1000", health=check("true"), restart=Restart("always"))
    state = pad.start(plan)
    wait_for_health(pad, plan, "healthy")
    os.kill(state.pid, signal.SIGKILL)
    wait_until(lambda: pad.shim(plan).state().pid not in (0, state.pid), what="the next life")
    wait_for_health(pad, plan, "healthy")
    assert pad.shim(plan).stop(signal.SIGKILL, 0).code == 137


def test_a_paused_container_is_not_checked(pad: Launchpad) -> None:
    plan = pad.plan("sleep", "1000", health=check("true"))
    pad.start(plan)
    wait_for_health(pad, plan, "healthy")
    pad.shim(plan).pause()
    time.sleep(0.2)  # a check that was on its way
    before = pad.shim(plan).state().health.log[-1]["end"]
    time.sleep(0.2)  # that nothing happens cannot be awaited
    assert pad.shim(plan).state().health.log[-1]["end"] == before
    pad.shim(plan).unpause()
    wait_until(lambda: pad.shim(plan).state().health.log[-1]["end"] != before)
