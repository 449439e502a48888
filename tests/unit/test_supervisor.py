"""The supervisor starts, prefixes, restarts and ends its processes, and never leaves one behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runtime.errors import SpecInvalid
from runtime.kernel.procfs import start_time
from runtime.model.state import Observed, Status
from runtime.store.paths import Config
from tests.support.waiting import wait_until
from workers.supervisor import state, teardown
from workers.supervisor.instance import Instance

ROOT = Path(__file__).parent.parent.parent

# Runs a supervisor over the processes described in argv[1], as `slipway up` does over the real ones.
_PROGRAM = """
import json, os, socket, sys
from workers.supervisor.instance import Instance
from workers.supervisor.processes import Process
from workers.supervisor.supervise import Supervisor
processes = [Process(colour="green", env=dict(os.environ), cwd="/", **p) for p in json.loads(sys.argv[1])]
with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    Supervisor(Instance.from_env(), processes, lambda: print("READY", flush=True)).run(listener)
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(config: Config) -> Iterator[Start]:
    """Starts a supervisor over processes given as keyword arguments of Process."""
    started: list[subprocess.Popen[str]] = []

    def start_one(*processes: dict[str, Any]) -> subprocess.Popen[str]:
        env = os.environ | {
            "SLIPWAY_ROOT": str(config.root),
            "SLIPWAY_RUN": str(config.run),
            "SLIPWAY_NAME": config.name,
        }
        popen = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, json.dumps(processes)],
            cwd=ROOT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(popen)
        return popen

    yield start_one
    for popen in started:
        popen.kill()
        popen.communicate()


@pytest.fixture
def instance(config: Config) -> Instance:
    return Instance(config, "127.0.0.1", 8000, "", "")


def _shown(instance: Instance, name: str) -> state.ProcessState | None:
    current = state.load(instance)
    return next((p for p in current.processes if p.name == name), None) if current else None


def _running_pid(instance: Instance, name: str) -> int:
    shown = _shown(instance, name)
    return shown.pid if shown and shown.state == "running" else 0


def test_lines_are_prefixed_with_the_name_of_their_process(start: Start) -> None:
    popen = start({"name": "one", "argv": ["/bin/sh", "-c", "echo hello; exec sleep 60"]})
    assert popen.stdout
    line = popen.stdout.readline()
    assert line.endswith("one       │ hello\n")


def test_lines_that_are_noise_are_not_shown(start: Start) -> None:
    script = "echo Hello, I am starting; echo news; exec sleep 60"
    popen = start({"name": "one", "argv": ["/bin/sh", "-c", script], "noise": "^Hello"})
    assert popen.stdout
    assert popen.stdout.readline().endswith("│ news\n")


def test_a_process_that_dies_is_started_again_and_says_how_it_ended(
    start: Start, instance: Instance
) -> None:
    popen = start({"name": "one", "argv": ["/bin/sleep", "60"]})
    first = wait_until(lambda: _running_pid(instance, "one"))
    os.kill(first, signal.SIGKILL)
    second = wait_until(lambda: (pid := _running_pid(instance, "one")) != first and pid)
    shown = _shown(instance, "one")
    assert shown is not None
    assert (shown.pid, shown.restarts, shown.last_exit) == (second, 1, "SIGKILL")
    popen.terminate()
    output, _ = popen.communicate(timeout=10)
    assert "ended (SIGKILL); started again in 0.1 s" in output


def test_a_process_that_keeps_dying_is_started_at_growing_intervals(start: Start) -> None:
    popen = start({"name": "one", "argv": ["/bin/sh", "-c", "exit 3"]})
    assert popen.stdout
    delays = []
    for line in popen.stdout:
        if "exit code 3" in line:
            delays.append(line.split("again in ")[1].strip())
        if len(delays) == 3:
            break
    assert delays == ["0.1 s", "0.3 s", "1 s"]


def test_a_missing_program_is_reported_and_tried_again(start: Start) -> None:
    popen = start({"name": "one", "argv": ["/nonexistent/program"]})
    assert popen.stdout
    assert "could not be started" in popen.stdout.readline()
    assert "started again in 0.1 s" in popen.stdout.readline()


def test_term_ends_the_processes_in_their_order(start: Start, instance: Instance) -> None:
    say_and_end = "trap 'echo ending; exit 0' TERM; while :; do sleep 0.05; done"
    popen = start(
        {"name": "last", "argv": ["/bin/sh", "-c", say_and_end], "stop_order": 1},
        {"name": "first", "argv": ["/bin/sh", "-c", say_and_end], "stop_order": 0},
    )
    wait_until(lambda: _running_pid(instance, "last") and _running_pid(instance, "first"))
    popen.terminate()
    output, _ = popen.communicate(timeout=10)
    ends = [line for line in output.splitlines() if line.endswith("ending")]
    assert [line.split()[1] for line in ends] == ["first", "last"]
    assert popen.returncode == 0
    assert state.load(instance) is None


def test_a_process_that_ignores_term_is_killed(start: Start, instance: Instance) -> None:
    stubborn = "trap '' TERM; echo set; while :; do sleep 0.05; done"
    popen = start({"name": "one", "argv": ["/bin/sh", "-c", stubborn], "stop_timeout": 0.2})
    assert popen.stdout
    assert popen.stdout.readline().endswith("set\n")
    pid = wait_until(lambda: _running_pid(instance, "one"))
    popen.terminate()
    popen.communicate(timeout=10)
    assert start_time(pid) == 0


def test_killing_the_supervisor_ends_its_processes(start: Start, instance: Instance) -> None:
    popen = start({"name": "one", "argv": ["/bin/sleep", "60"]})
    pid = wait_until(lambda: _running_pid(instance, "one"))
    born = start_time(pid)
    popen.kill()
    wait_until(lambda: start_time(pid) != born, what="PR_SET_PDEATHSIG ends the child")


def test_ready_is_told_when_the_listening_process_says_so(start: Start) -> None:
    script = "echo 1 >&$SLIPWAY_READY_FD; exec sleep 60"
    popen = start({"name": "web", "argv": ["/bin/bash", "-c", script], "listens": True})
    assert popen.stdout
    assert popen.stdout.readline() == "READY\n"


@pytest.mark.parametrize(
    ("listen", "port", "expected"),
    [
        ("", "", ("127.0.0.1", 8000)),
        ("", "9000", ("127.0.0.1", 9000)),
        ("0.0.0.0:80", "", ("0.0.0.0", 80)),
        ("[::1]:8443", "", ("::1", 8443)),
        (":8001", "", ("127.0.0.1", 8001)),
    ],
)
def test_the_address_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, listen: str, port: str, expected: tuple[str, int]
) -> None:
    monkeypatch.setenv("SLIPWAY_LISTEN", listen)
    monkeypatch.setenv("SLIPWAY_PORT", port)
    instance = Instance.from_env()
    assert (instance.host, instance.port) == expected


@pytest.mark.parametrize(("listen", "port"), [("localhost", ""), ("", "http"), ("1.2.3.4:0", "")])
def test_a_bad_address_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, listen: str, port: str
) -> None:
    monkeypatch.setenv("SLIPWAY_LISTEN", listen)
    monkeypatch.setenv("SLIPWAY_PORT", port)
    with pytest.raises(SpecInvalid) as caught:
        Instance.from_env()
    assert caught.value.field.startswith("SLIPWAY_")


def test_the_unprivileged_processes_get_nothing_of_roots_environment(
    monkeypatch: pytest.MonkeyPatch, instance: Instance
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert "AWS_SECRET_ACCESS_KEY" not in instance.web_env()
    assert instance.web_env()["SLIPWAY_NAME"] == instance.config.name


def test_only_one_supervisor_holds_the_lock(tmp_path: Path) -> None:
    first, second = state.Lock(tmp_path / "lock"), state.Lock(tmp_path / "lock")
    assert first.take()
    assert not second.take()


def test_down_waits_for_all_containers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    many = 100
    together = threading.Barrier(
        many, timeout=10
    )  # broken, and so an error, when fewer wait at a time
    ended: list[str] = []

    class Engine:
        networks = SimpleNamespace(clean=lambda: None)

        def __init__(self, _config: Config) -> None: ...

        def observe_all(self) -> list[Observed]:
            return [Observed(f"{n:064}", Status.RUNNING, None) for n in range(many)]

        def stop(self, _container: str) -> None:
            together.wait()

        def cleanup(self, container: str) -> None:
            ended.append(container)

    monkeypatch.setattr(teardown, "Engine", Engine)
    monkeypatch.setattr(teardown, "CgroupManager", lambda _: SimpleNamespace(remove_root=lambda: 0))
    assert teardown.main() == 0
    assert len(set(ended)) == many
