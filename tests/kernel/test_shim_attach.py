"""Clients of a container's own process: `attach`."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.errors import BadState, Conflict, ShimLost
from runtime.model.plan import Plan
from runtime.model.spec import Restart
from runtime.shim.attach_session import AttachSession
from tests.support.launching import Launchpad
from tests.support.waiting import PATIENCE, wait_until

MIB = 2**20


@pytest.fixture
def pad() -> Iterator[Launchpad]:
    with Launchpad() as made:
        yield made


def attach(pad: Launchpad, plan: Plan, *, stdin: bool = True) -> AttachSession:
    session = pad.shim(plan).attach(stdin=stdin)
    session.settimeout(10 * PATIENCE)
    return session


def read_until(session: AttachSession, text: bytes) -> bytes:
    """All output up to where `text` has come."""
    got = b""
    while text not in got:
        output = session.read()
        assert output is not None, got
        got += output.data
    return got


def write_for_ever(session: AttachSession) -> None:
    while True:
        session.write(bytes(16384))


def rest(session: AttachSession) -> bytes:
    got = b""
    while (output := session.read()) is not None:
        got += output.data
    return got


def descriptors(pad: Launchpad, plan: Plan) -> list[str]:
    """The monitor's."""
    return os.listdir(f"/proc/{pad.shim(plan).state().shim_pid}/fd")


def test_what_is_written_reaches_the_process_and_its_answer_every_client(pad: Launchpad) -> None:
    plan = pad.plan("cat", process={"stdin": True})
    pad.start(plan)
    with (
        attach(pad, plan) as one,
        attach(pad, plan) as two,
        attach(pad, plan, stdin=False) as three,
    ):
        assert (one.stdin, one.terminal, three.stdin) == (True, False, False)
        one.write(b"first\n")
        two.write(b"second\n")
        for session in (one, two, three):
            got = read_until(session, b"second\n")
            assert sorted(got.split()) == [b"first", b"second"]
    pad.wait_for_output(plan, "second")


def test_streams_are_told_apart_and_the_end_has_the_exit_code(pad: Launchpad) -> None:
    plan = pad.shell("read line; echo out $line; echo err >&2; exit 7", process={"stdin": True})
    pad.start(plan)
    with attach(pad, plan) as session:
        session.write(b"x\n")
        outputs = []
        while (output := session.read()) is not None:
            outputs.append((output.stream, output.data))
        assert sorted(outputs) == [("stderr", b"err\n"), ("stdout", b"out x\n")]
        end = session.end(5)
        assert (end.exit.code, end.exit.reason, end.restarting) == (7, "exited", False)
    assert pad.exits(plan)[-1].code == 7


def test_a_client_sees_what_comes_after_it_and_the_log_has_what_came_before(
    pad: Launchpad,
) -> None:
    plan = pad.shell("echo before; read line; echo after", process={"stdin": True})
    pad.start(plan)
    pad.wait_for_output(plan, "before")
    with attach(pad, plan) as session:
        session.write(b"\n")
        assert rest(session) == b"after\n"
    assert pad.output(plan) == "before\nafter"


def test_a_terminal_is_typed_into_and_the_last_size_holds(pad: Launchpad) -> None:
    plan = pad.plan("sh", process={"tty": True})
    pad.start(plan)
    with attach(pad, plan) as one, attach(pad, plan) as two:
        assert (one.terminal, one.stdin) == (True, True)
        one.resize(33, 99)
        two.resize(44, 111)
        one.write(b"stty size; echo do''ne\n")
        for session in (one, two):
            assert b"44 111\r\n" in read_until(session, b"done\r\n")
        pad.shim(plan).resize(55, 122)
        one.write(b"stty size; echo do''ne\n")
        assert b"55 122\r\n" in read_until(one, b"done\r\n")
        one.write(b"exit 3\n")
        rest(one)
        assert one.end(5).exit.code == 3


def test_keys_of_a_terminal_reach_the_process_as_signals(pad: Launchpad) -> None:
    plan = pad.shell("trap 'echo in''terrupted' INT; echo up; while :; do sleep 0.05; done",
                     process={"tty": True})  # fmt: skip
    pad.start(plan)
    pad.wait_for_output(plan, "up")
    with attach(pad, plan) as session:
        session.write(b"\x03")
        read_until(session, b"interrupted")


def test_what_detaches_leaves_it_running(pad: Launchpad) -> None:
    plan = pad.plan("cat", process={"stdin": True})
    pad.start(plan)
    attach(pad, plan).close()
    with attach(pad, plan) as session:
        session.write(b"still here\n")
        read_until(session, b"still here")
    with attach(pad, plan) as session:
        session.end_input()
        with attach(pad, plan) as other:
            other.write(b"and now\n")
            read_until(session, b"and now")  # it still sees what comes
    assert pad.shim(plan).state().status == "running"


@pytest.mark.parametrize("how", ["end of input", "gone"])
def test_input_for_one_client_ends_with_it(pad: Launchpad, how: str) -> None:
    plan = pad.plan("cat", process={"stdin": True, "stdin_once": True})
    pad.start(plan)
    with attach(pad, plan, stdin=False) as onlooker:
        attach(pad, plan, stdin=False).close()  # one that never wrote ends nothing
        session = attach(pad, plan)
        session.write(b"last words\n")
        if how == "gone":
            session.close()
        else:
            session.end_input()
        assert rest(onlooker) == b"last words\n"
        assert onlooker.end(5).exit.code == 0
        session.close()


def test_input_that_the_process_has_no_room_for_arrives_whole(pad: Launchpad) -> None:
    plan = pad.shell("sleep 0.3; wc -c", process={"stdin": True, "stdin_once": True})
    pad.start(plan)
    total = 3 * MIB
    with attach(pad, plan) as session:
        left = memoryview(bytes(total))
        while left:
            left = left[session.write(bytes(left)) :]
        session.end_input()
        assert rest(session).split() == [str(total).encode()]


def test_a_process_that_reads_nothing_holds_nobody_up(pad: Launchpad) -> None:
    plan = pad.shell(
        "while :; do echo tick; sleep 0.05; done", process={"stdin": True, "stdin_once": True}
    )
    pad.start(plan)
    with attach(pad, plan, stdin=False) as onlooker, attach(pad, plan) as session:
        session.settimeout(0.3)
        with pytest.raises(TimeoutError):
            write_for_ever(session)
        read_until(session, b"tick\n")
        session.close()
        for _ in range(3):
            read_until(onlooker, b"tick\n")
    assert pad.shim(plan).state().status == "running"


def test_input_that_the_process_has_closed_is_dropped(pad: Launchpad) -> None:
    plan = pad.shell("exec <&-; echo up; sleep 1000", process={"stdin": True})
    pad.start(plan)
    pad.wait_for_output(plan, "up")
    with attach(pad, plan) as session:
        for _ in range(20):
            session.write(bytes(16384))
    assert pad.shim(plan).state().status == "running"


def test_a_slow_client_skips_and_is_told_while_nobody_waits_for_it(pad: Launchpad) -> None:
    total = 20 * MIB
    plan = pad.shell(
        f"read x; head -c {total} /dev/zero; echo end; read x", process={"stdin": True}
    )
    pad.start(plan)
    with attach(pad, plan) as slow, attach(pad, plan) as quick:
        quick.write(b"\n")
        got = 0
        while got < total + 4:
            output = quick.read()
            assert output is not None
            got += len(output.data) + output.skipped
        seen, skipped, last = 0, 0, b""
        while seen + skipped < total + 4:
            output = slow.read()
            assert output is not None
            seen, skipped = seen + len(output.data), skipped + output.skipped
            last = output.data
        assert 0 < seen < 4 * MIB
        assert last.endswith(b"end\n")  # how things stand now, not how they stood
        quick.write(b"\n")
        assert slow.read() is None
        assert slow.end(5)[1:] == (False, 0)


def test_what_a_slow_client_never_got_is_told_at_the_end(pad: Launchpad) -> None:
    total = 20 * MIB
    plan = pad.shell(f"read x; head -c {total} /dev/zero", process={"stdin": True})
    pad.start(plan)
    with attach(pad, plan) as slow:
        slow.write(b"\n")
        assert pad.wait(plan).code == 0
        seen = 0
        while (output := slow.read()) is not None:
            seen += len(output.data) + output.skipped
        assert seen + slow.end(5).skipped == total


def test_one_that_has_no_input_is_only_looked_at(pad: Launchpad) -> None:
    plan = pad.shell("while :; do echo tick; sleep 0.05; done")
    pad.start(plan)
    with attach(pad, plan) as session:
        assert (session.stdin, session.terminal) == (False, False)
        session.write(b"into the void\n")
        session.resize(10, 10)
        session.end_input()
        read_until(session, b"tick\n")
    with pytest.raises(Conflict, match="no terminal"):
        pad.shim(plan).resize(10, 10)


@pytest.mark.parametrize(
    "packet", [b"\x02", b"\x02\x00\x00\x00\x00", b"\x02\x01", b"\xff?", b"\x00"]
)
def test_nonsense_from_a_client_harms_nobody(pad: Launchpad, packet: bytes) -> None:
    plan = pad.plan("cat", process={"stdin": True})
    pad.start(plan)
    with attach(pad, plan) as session, attach(pad, plan) as other:
        with socket.socket(fileno=os.dup(session.fileno())) as raw:
            raw.send(packet)
        for client in (session, other):
            client.write(b"fine\n")
            read_until(client, b"fine\n")


def test_a_life_ends_for_its_clients_and_the_next_one_has_its_own(pad: Launchpad) -> None:
    script = "echo up; read line; echo $line; exit 4"
    plan = pad.shell(script, process={"stdin": True}, restart=Restart("always"))
    first = pad.start(plan)
    with attach(pad, plan) as session:
        session.write(b"one\n")
        assert read_until(session, b"one\n")
        assert session.read() is None
        end = session.end(5)
        assert (end.exit.code, end.restarting) == (4, True)
    wait_until(lambda: pad.shim(plan).state().pid not in (0, first.pid), what="the next life")
    with attach(pad, plan) as session:
        session.write(b"two\n")
        read_until(session, b"two\n")
    assert pad.shim(plan).stop(signal.SIGKILL, 0).code is not None


def test_nobody_attaches_to_what_does_not_run(pad: Launchpad) -> None:
    plan = pad.plan("false", restart=Restart("always"))
    pad.start(plan)

    def restarting() -> bool:
        return pad.shim(plan).state().next_restart_at > time.time() + 1

    wait_until(restarting, what="a long pause between two lives")
    with pytest.raises(BadState, match="restarting"):
        pad.shim(plan).attach()
    pad.shim(plan).stop(None, 0)


def test_there_is_a_bound_of_clients_and_they_leave_nothing(pad: Launchpad) -> None:
    plan = pad.plan("cat", process={"stdin": True})
    pad.start(plan)
    before = len(descriptors(pad, plan))
    sessions = [attach(pad, plan) for _ in range(64)]
    with pytest.raises(Conflict, match="64"):
        pad.shim(plan).attach()
    for session in sessions:
        session.close()
    wait_until(lambda: len(descriptors(pad, plan)) <= before, what="all of them to be let go")
    with attach(pad, plan) as session:
        session.write(b"hello\n")
        read_until(session, b"hello")


def test_who_is_attached_hears_of_the_monitor_s_death(pad: Launchpad) -> None:
    plan = pad.plan("cat", process={"stdin": True})
    state = pad.start(plan)
    with attach(pad, plan) as session:
        os.kill(state.shim_pid, signal.SIGKILL)
        assert session.read() is None
        with pytest.raises(ShimLost):
            session.end(5)


def test_clients_come_and_go_while_lives_do(pad: Launchpad) -> None:
    script = "head -c 300000 /dev/zero; read x; exit 1"
    plan = pad.shell(script, process={"stdin": True}, restart=Restart("always"))
    state = pad.start(plan)
    fds = f"/proc/{state.shim_pid}/fd"
    ends: list[int | None] = []

    def client(dice: random.Random) -> None:
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            try:
                with attach(pad, plan, stdin=dice.random() < 0.5) as session:
                    if dice.random() < 0.3:
                        session.write(b"\n" if dice.random() < 0.5 else bytes(16384))
                    if dice.random() < 0.3:
                        session.end_input()
                    session.settimeout(dice.random() / 10)
                    while session.read() is not None:
                        pass
                    ends.append(session.end(5).exit.code)
            except (BadState, OSError):
                time.sleep(dice.random() / 20)

    threads = [threading.Thread(target=client, args=(random.Random(n),)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(ends) == {1}
    assert (pad.shim(plan).state().shim_pid, pad.shims()) == (state.shim_pid, [state.shim_pid])
    wait_until(lambda: len(os.listdir(fds)) < 20, what="every client to be let go")
    pad.shim(plan).stop(signal.SIGKILL, 0)


def test_a_client_costs_a_monitor_little_memory(pad: Launchpad) -> None:
    plan = pad.plan("cat", process={"stdin": True})
    pid = pad.start(plan).shim_pid
    pad.shim(plan).state()  # the first request touches what every one needs
    before = private(pid)
    with attach(pad, plan):
        assert private(pid) - before < MIB


def private(pid: int) -> int:
    """Bytes of memory that a process shares with nobody."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(
        int(kilobytes) << 10
        for kilobytes in re.findall(r"^Private\w*:\s+(\d+)", text, re.MULTILINE)
    )
