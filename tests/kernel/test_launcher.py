"""The fork server: it starts what it is asked for, survives nonsense, and its end ends no container."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from runtime.errors import EngineError, InitFailed, LauncherUnavailable, PortInUse
from runtime.launcher.client import LauncherClient
from runtime.model.state import Status
from tests.support.launching import Launchpad
from tests.support.waiting import PATIENCE, wait_until


@pytest.fixture
def pad() -> Iterator[Launchpad]:
    with Launchpad() as made:
        yield made


def raw(pad: Launchpad, data: bytes) -> bytes:
    """What the launcher answers to `data`, until it hangs up."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.settimeout(10 * PATIENCE)
        channel.connect(str(pad.config.launcher_socket))
        channel.sendall(data)
        channel.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := channel.recv(65536):
            answer += chunk
        return answer


def test_a_plan_becomes_a_process(pad: Launchpad) -> None:
    plan = pad.plan("sleep", "1000")
    state = pad.start(plan)
    assert state.status == Status.RUNNING
    assert Path(f"/proc/{state.pid}/cmdline").read_bytes() == b"sleep\x001000\x00"
    assert pad.shim(plan).state() == state


def test_a_monitor_is_nobody_s_and_in_nobody_s_group(pad: Launchpad) -> None:
    plan = pad.plan("sleep", "1000")
    state = pad.start(plan)
    shim = Path(f"/proc/{state.shim_pid}")
    assert os.getsid(state.shim_pid) == state.shim_pid
    groups = shim.joinpath("cgroup").read_text().splitlines()
    assert all(g.endswith(f"/{pad.config.cgroup}/shims") for g in groups if g.split(":")[1])
    comm = shim.joinpath("comm")
    wait_until(lambda: comm.read_text() == f"slw-{plan['id'][:11]}\n", what="its name")
    assert not os.stat(shim / "ns").st_uid
    # Non-dumpable: what joins a container cannot be looked at from inside.
    assert "\nCoreDumping:\t0" in shim.joinpath("status").read_text()
    for name in ("net", "pid", "mnt"):
        assert os.readlink(shim / "ns" / name) == os.readlink(f"/proc/self/ns/{name}")


def test_its_death_leaves_containers_and_their_exits_alone(pad: Launchpad) -> None:
    plan = pad.shell("trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done")
    state = pad.start(plan)
    pad.wait_for_output(plan, "ready")
    pad.stop_launcher(signal.SIGKILL)
    with pytest.raises(LauncherUnavailable):
        pad.start(plan)
    assert pad.shim(plan).state().pid == state.pid
    assert pad.shim(plan).stop(None, 5).code == 5
    pad.start_launcher()
    assert pad.start(pad.plan("sleep", "1000")).pid


def test_a_plan_that_it_took_to_its_grave_can_be_sent_again(pad: Launchpad) -> None:
    assert pad.launcher is not None
    pad.launcher.send_signal(signal.SIGSTOP)
    for pid in pad.spares():
        os.kill(pid, signal.SIGKILL)  # it would take the plan by itself
    wait_until(lambda: not pad.spares(), what="the spare to be gone")
    session = LauncherClient(pad.config).start(pad.plan("sleep", "1000"))
    pad.stop_launcher(signal.SIGKILL)
    with pytest.raises(LauncherUnavailable) as caught:
        session.wait_netns()
    assert caught.value.retryable
    session.close()


def test_signals_to_its_group_leave_containers_alone(pad: Launchpad) -> None:
    """What Ctrl-C in the platform's terminal and `kill` on its group send."""
    plan = pad.plan("sleep", "1000")
    state = pad.start(plan)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        os.kill(state.shim_pid, number)
    pad.stop_launcher(signal.SIGTERM)
    assert not pad.config.launcher_socket.exists()
    assert pad.shim(plan).state().status == Status.RUNNING


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"nonsense\n", b"[]\n", b"{}\n", b'{"id": 1}\n', b'{"id": ', b"\xff\0\n"]
)
def test_a_bad_request_harms_nobody(pad: Launchpad, data: bytes) -> None:
    answer = raw(pad, data)
    if answer:
        message = json.loads(answer)
        assert message["stage"] == "failed"
        assert message["error"]["message"]
    assert pad.start(pad.plan("sleep", "1000")).pid


def test_a_client_that_hangs_does_not_hold_up_others(pad: Launchpad) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as idle:
        idle.connect(str(pad.config.launcher_socket))
        idle.sendall(b'{"id":')
        assert pad.start(pad.plan("sleep", "1000")).pid


def test_a_start_that_nobody_waits_for_leaves_nothing(pad: Launchpad) -> None:
    """The engine dies between "the network namespace is there" and "go"."""
    plan = pad.plan("sleep", "1000", plan={"wait_for_network": True})
    with LauncherClient(pad.config).start(plan) as session:
        assert Path(f"/proc/{session.wait_netns()}").exists()
    wait_until(lambda: not pad.processes(), what="init and its monitor to give up")
    assert not any(Path(d).exists() for d in plan["cgroup"]["paths"].values())


def test_a_failed_start_says_why_and_leaves_nothing(pad: Launchpad) -> None:
    plan = pad.plan("no-such-command")
    with pytest.raises(InitFailed) as caught:
        pad.start(plan)
    assert (caught.value.stage, caught.value.exit_code) == ("exec", 127)
    assert "no-such-command" in caught.value.message
    wait_until(lambda: not pad.processes(), what="the monitor to end")
    assert not any(Path(d).exists() for d in plan["cgroup"]["paths"].values())
    assert not pad.socket(plan).exists()


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_port_that_another_program_has_is_found(pad: Launchpad, protocol: str) -> None:
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", 0))
        if protocol == "tcp":
            other.listen()
        port = other.getsockname()[1]
        held = {"protocol": protocol, "host_ip": "", "host_port": port}
        plan = pad.plan("sleep", "1000", plan={"ports": [held]})
        with pytest.raises(PortInUse, match=str(port)):
            pad.start(plan)
    wait_until(lambda: not pad.processes(), what="the monitor to end")


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_published_port_is_held_as_long_as_the_container_runs(
    pad: Launchpad, protocol: str
) -> None:
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    held = {"protocol": protocol, "host_ip": "127.0.0.1", "host_port": port}
    plan = pad.plan("sleep", "1000", plan={"ports": [held]})
    pad.start(plan)
    with socket.socket(socket.AF_INET, kind) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
    with pytest.raises(PortInUse):
        pad.start(pad.plan("sleep", "1000", plan={"ports": [held]}))
    pad.shim(plan).stop(signal.SIGKILL, 0)
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", port))


def test_last_connections_of_a_former_owner_are_no_reason_to_refuse_a_port(pad: Launchpad) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            server.accept()[0].close()  # who closes first keeps the port, in TIME_WAIT
            assert client.recv(1) == b""
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    held = {"protocol": "tcp", "host_ip": "127.0.0.1", "host_port": port}
    pad.start(pad.plan("sleep", "1000", plan={"ports": [held]}))


def test_an_address_that_is_not_the_host_s_is_refused(pad: Launchpad) -> None:
    held = {"protocol": "tcp", "host_ip": "192.0.2.1", "host_port": 8080}
    with pytest.raises(PortInUse, match="192\\.0\\.2\\.1"):
        pad.start(pad.plan("sleep", "1000", plan={"ports": [held]}))


def test_many_at_once(pad: Launchpad) -> None:
    plans = [pad.plan("sleep", "1000") for _ in range(20)]
    sessions = [LauncherClient(pad.config).start(plan) for plan in plans]
    states = [session.wait_running() for session in sessions]
    for session in sessions:
        session.close()
    assert len({s.pid for s in states}) == 20
    assert len({s.shim_pid for s in states}) == 20


def test_it_leaves_no_zombies(pad: Launchpad) -> None:
    for _ in range(3):
        pad.run(pad.plan("true"))

    assert pad.launcher is not None
    launcher = pad.launcher.pid
    wait_until(
        lambda: _names_of_children(launcher) == ["slw-spare"],
        what="every shim to be reaped, and one to be in reserve",
    )


def _names_of_children(pid: int) -> list[str]:
    names = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(FileNotFoundError):  # it has just been reaped
            names.append(Path(f"/proc/{child}/comm").read_text().strip())
    return names


def test_a_second_launcher_takes_over_the_socket(pad: Launchpad) -> None:
    """Its supervisor may start the next before the last has gone; the last must not take the socket with it."""
    first = pad.launcher
    assert first is not None
    before = os.stat(pad.config.launcher_socket).st_ino
    pad.start_launcher()
    wait_until(lambda: os.stat(pad.config.launcher_socket).st_ino != before)
    first.terminate()
    first.wait(10 * PATIENCE)
    assert pad.start(pad.plan("sleep", "1000")).pid


def test_errors_of_the_seam_are_the_runtime_s(pad: Launchpad) -> None:
    plan = pad.plan("sleep", "1000", plan={"cwd": "/etc/passwd"})
    started = time.monotonic()
    with pytest.raises(EngineError) as caught:
        pad.start(plan)
    assert caught.value.code == "init_failed"
    assert caught.value.extra["stage"] == "cwd"
    assert time.monotonic() - started < 5 * PATIENCE
