"""The monitor of a container: output, exits, signals, and what it leaves on disk."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest

from runtime.errors import EngineError, NotFound
from runtime.model.codec import from_json
from runtime.model.spec import Limits, LogOptions
from runtime.model.state import ExitRecord, RunState, Status
from runtime.store.files import read_json
from tests.support.launching import Launchpad
from tests.support.waiting import PATIENCE, wait_until

MIB = 2**20
_LOOP = "while :; do sleep 0.02; done"


@pytest.fixture
def pad() -> Iterator[Launchpad]:
    with Launchpad() as made:
        yield made


# -- exits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "code", "reason", "number"),
    [
        ("exit 0", 0, "exited", None),
        ("exit 42", 42, "exited", None),
        ("exit 255", 255, "exited", None),
    ],
)
def test_the_exit_code_is_kept(
    pad: Launchpad, script: str, code: int, reason: str, number: int | None
) -> None:
    plan = pad.shell(script)
    record, _ = pad.run(plan)
    assert (record.code, record.reason, record.signal) == (code, reason, number)
    assert record.started_at <= record.finished_at
    assert not record.oom_killed
    state = from_json(RunState, read_json(pad.config.container_run(plan["id"]) / "state.json"))
    assert (state.status, state.exit, state.pid) == (Status.EXITED, record, 0)


def test_a_signal_from_the_host_is_128_and_its_number(pad: Launchpad) -> None:
    plan = pad.plan("sleep", "1000")
    os.kill(pad.start(plan).pid, signal.SIGKILL)
    record = pad.wait(plan)
    assert (record.code, record.reason, record.signal) == (137, "signaled", signal.SIGKILL)


def test_no_exit_is_lost_however_fast(pad: Launchpad) -> None:
    for code in range(10):
        record, _ = pad.run(pad.shell(f"exit {code}"))
        assert record.code == code


def test_an_oom_kill_is_seen(pad: Launchpad) -> None:
    plan = pad.shell("tail /dev/zero", limits=Limits(memory=16 * MIB, memory_swap=16 * MIB))
    record, _ = pad.run(plan)
    assert record.oom_killed
    assert record.code in (1, 137)
    # When init itself is the victim, that is the reason of its end.
    direct = pad.plan("tail", "/dev/zero", limits=Limits(memory=16 * MIB, memory_swap=16 * MIB))
    record, _ = pad.run(direct)
    assert (record.oom_killed, record.code, record.reason) == (True, 137, "oom_killed")


def test_nothing_of_an_ended_container_is_left(pad: Launchpad) -> None:
    plan = pad.shell("sleep 1000 & sleep 1000 & exit 0")
    pad.run(plan)
    wait_until(lambda: not pad.processes(), what="monitor and children to be gone")
    assert not any(Path(d).exists() for d in plan["cgroup"]["paths"].values())
    left = {p.name for p in pad.config.container_run(plan["id"]).iterdir()}
    assert left == {"state.json", "hosts", "hostname", "resolv.conf"}
    with pytest.raises(NotFound):
        pad.shim(plan).state()


# -- output --------------------------------------------------------------------------------------


def test_stdout_and_stderr_stay_apart_and_complete(pad: Launchpad) -> None:
    plan = pad.shell("for i in $(seq 2000); do echo out $i; echo err $i >&2; done")
    pad.run(plan)
    for stream, name in (("stdout", "out"), ("stderr", "err")):
        assert pad.output(plan, stream).splitlines() == [f"{name} {i}" for i in range(1, 2001)]


def test_last_words_without_a_newline_are_kept(pad: Launchpad) -> None:
    assert pad.run(pad.shell("printf 'first\\nlast words'"))[1] == "first\nlast words"


def test_a_flood_is_rotated_and_stalls_nobody(pad: Launchpad) -> None:
    logs = LogOptions(max_size=256 * 1024, max_files=2)
    plan = pad.shell("yes | head -c 8000000; echo end", logs=logs)
    record, _ = pad.run(plan)
    assert record.code == 0
    directory = pad.config.bundle(plan["id"]) / "logs"
    assert sum(p.stat().st_size for p in directory.iterdir()) < 1.5 * MIB
    assert pad.output(plan).endswith("end")


def test_the_monitor_answers_under_a_flood(pad: Launchpad) -> None:
    plan = pad.shell("yes")
    pad.start(plan)
    begun = time.monotonic()
    for _ in range(10):
        pad.shim(plan).state()
    assert time.monotonic() - begun < 2 * PATIENCE
    assert pad.shim(plan).stop(signal.SIGKILL, 0).code == 137


def test_no_log_where_none_is_wanted(pad: Launchpad) -> None:
    plan = pad.shell("echo unheard", logs=LogOptions(driver="none"))
    assert pad.run(plan)[0].code == 0
    assert not (pad.config.bundle(plan["id"]) / "logs").exists()


def test_a_process_that_keeps_the_pipe_does_not_keep_the_container(pad: Launchpad) -> None:
    plan = pad.shell("setsid sleep 1000 & echo started; exit 3")
    record, output = pad.run(plan)
    assert (record.code, output) == (3, "started")


def test_stdin_is_empty_unless_it_is_kept_open(pad: Launchpad) -> None:
    assert pad.run(pad.shell("cat; echo eof"))[1] == "eof"
    plan = pad.shell("cat; echo eof", process={"stdin": True})
    pad.start(plan)
    time.sleep(0.1)  # that nothing happens cannot be awaited
    assert pad.shim(plan).state().status == Status.RUNNING
    assert pad.output(plan) == ""


# -- signals, stop, pause ------------------------------------------------------------------------


def test_stop_asks_with_the_signal_of_the_container(pad: Launchpad) -> None:
    plan = pad.shell(f"trap 'exit 9' USR1; echo ready; {_LOOP}", stop_signal="SIGUSR1")
    pad.start(plan)
    pad.wait_for_output(plan, "ready")
    record = pad.shim(plan).stop()
    assert (record.code, record.reason) == (9, "stopped")


def test_stop_kills_what_does_not_heed_after_the_grace(pad: Launchpad) -> None:
    plan = pad.shell(f"trap '' TERM; echo ready; {_LOOP}")
    pad.start(plan)
    pad.wait_for_output(plan, "ready")
    begun = time.monotonic()
    record = pad.shim(plan).stop(None, 0.3)
    assert record.code == 137
    assert 0.3 <= time.monotonic() - begun < 3 * PATIENCE


def test_a_second_stop_may_shorten_the_grace(pad: Launchpad) -> None:
    plan = pad.shell(f"trap '' TERM; echo ready; {_LOOP}")
    pad.start(plan)
    pad.wait_for_output(plan, "ready")
    answers: list[ExitRecord] = []
    patient = Thread(target=lambda: answers.append(pad.shim(plan).stop(None, 60)))
    patient.start()
    answers.append(pad.shim(plan).stop(None, 0.1))
    patient.join(10 * PATIENCE)
    assert [a.code for a in answers] == [137, 137]


def test_kill_sends_any_signal_and_only_that(pad: Launchpad) -> None:
    plan = pad.shell(f"trap 'echo hup' HUP; echo ready; {_LOOP}")
    pad.start(plan)
    pad.wait_for_output(plan, "ready")
    pad.shim(plan).kill(signal.SIGHUP)
    pad.wait_for_output(plan, "hup")
    assert not pad.shim(plan).state().user_stopped
    with pytest.raises(EngineError):
        pad.shim(plan).kill(99)
    assert pad.shim(plan).state().status == Status.RUNNING


def test_pause_and_unpause(pad: Launchpad) -> None:
    plan = pad.shell("while :; do echo tick; sleep 0.01; done")
    pad.start(plan)
    pad.wait_for_output(plan, "tick")
    shim = pad.shim(plan)
    shim.pause()
    assert shim.state().status == Status.PAUSED
    before = len(pad.output(plan))
    time.sleep(0.1)  # that nothing happens cannot be awaited
    assert len(pad.output(plan)) - before <= len("\ntick")
    shim.unpause()
    wait_until(lambda: len(pad.output(plan)) > before + 20)
    assert shim.state().status == Status.RUNNING


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_a_paused_container_can_be_ended(pad: Launchpad, way: str) -> None:
    plan = pad.plan("sleep", "1000")
    pad.start(plan)
    pad.shim(plan).pause()
    if way == "stop":
        assert pad.shim(plan).stop(None, 0.1).code == 137
    else:
        pad.shim(plan).kill(signal.SIGKILL)
        assert pad.wait(plan).code == 137


def test_wait_ends_with_the_container_or_with_patience(pad: Launchpad) -> None:
    plan = pad.shell("read line < /tmp/fifo; exit 4")
    os.mkfifo(pad.rootfs / "tmp" / "fifo", 0o666)
    pad.start(plan)
    assert pad.shim(plan).wait(0.1) is None
    answers: list[ExitRecord | None] = []
    waiters = [
        Thread(target=lambda: answers.append(pad.shim(plan).wait(10 * PATIENCE))) for _ in range(3)
    ]
    for waiter in waiters:
        waiter.start()
    pid = pad.shim(plan).state().pid
    Path(f"/proc/{pid}/root/tmp/fifo").write_text("go\n")
    for waiter in waiters:
        waiter.join(10 * PATIENCE)
    assert [a.code for a in answers if a is not None] == [4, 4, 4]


# -- what it tells -------------------------------------------------------------------------------


def test_events_are_told_and_nobody_has_to_listen(pad: Launchpad) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(pad.config.events_socket))
        listener.settimeout(5 * PATIENCE)
        plan = pad.plan("sleep", "1000")
        pad.start(plan)
        pad.shim(plan).pause()
        pad.shim(plan).unpause()
        pad.shim(plan).stop(signal.SIGKILL, 0)
        seen: list[str] = []
        while "stopped" not in seen:
            message = json.loads(listener.recv(4096))
            assert message["id"] == plan["id"]
            seen.append(message["event"])
    wanted = ("started", "paused", "unpaused", "stopped")
    assert [e for e in seen if e in wanted] == list(wanted)


def test_a_watcher_that_does_not_read_holds_nobody_up(pad: Launchpad) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(pad.config.events_socket))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler:
            filler.setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    filler.sendto(b"x" * 1000, str(pad.config.events_socket))
        assert pad.run(pad.plan("true"))[0].code == 0


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\n", b"[]\n", b'{"op": "fly"}\n', b'{"op": "kill"}\n',
        b'{"op": "kill", "signal": Infinity}\n', b'{"op": "resize", "rows": 1e999}\n',
        b'{"op": "resize", "rows": 0, "columns": 1}\n',
        b"[" * 100_000 + b"\n",
    ],
)  # fmt: skip
def test_nonsense_on_the_control_socket_harms_nobody(pad: Launchpad, data: bytes) -> None:
    plan = pad.plan("sleep", "1000")
    pad.start(plan)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(5 * PATIENCE)
        client.connect(str(pad.socket(plan)))
        client.sendall(data)
        answer = client.recv(65536)
    assert not answer or not json.loads(answer)["ok"]
    assert pad.shim(plan).state().status == Status.RUNNING


def test_only_root_talks_to_it(pad: Launchpad) -> None:
    plan = pad.plan("sleep", "1000")
    pad.start(plan)
    assert pad.socket(plan).stat().st_mode & 0o777 == 0o600
    assert pad.socket(plan).parent.stat().st_mode & 0o077 == 0


def test_when_the_monitor_is_killed_the_container_does_not_live_on(pad: Launchpad) -> None:
    plan = pad.shell(f"sleep 1000 & {_LOOP}")
    state = pad.start(plan)
    os.kill(state.shim_pid, signal.SIGKILL)
    wait_until(lambda: not pad.processes("containers/"), what="the container to die with it")


def test_that_holds_for_another_user_too(pad: Launchpad) -> None:
    """A change of credentials clears the kernel's notice of the parent's death."""
    plan = pad.plan("sleep", "1000", process={"user": "app"})
    state = pad.start(plan)
    os.kill(state.shim_pid, signal.SIGKILL)
    wait_until(lambda: not pad.processes("containers/"), what="the container to die with it")


def test_a_monitor_is_small(pad: Launchpad) -> None:
    """Half of what Docker's monitor and proxy take is the bar, 1.95 MB; in the kernel's own view."""
    plans = [pad.plan("sleep", "1000") for _ in range(3)]
    pids = [pad.start(plan).shim_pid for plan in plans]

    def private(pid: int) -> int:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))

    assert max(private(pid) for pid in pids) < 1950  # kB
