"""Containers do not notice the platform's death, and the platform learns what it missed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from runtime.kernel.procfs import start_time
from tests.support.platform import Api, Platform, free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(300)

# What a page may take to show the truth once the platform runs again.
TRUTH = 5.0  # seconds

_WAITS_FOR_A_WORD = "echo up; until [ -e /ctl/$NAME ]; do sleep 0.05; done; exit $(cat /ctl/$NAME)"


@pytest.fixture
def own(request: pytest.FixtureRequest) -> Iterator[Platform]:
    """A platform that the test may break."""
    platform = Platform()
    try:
        platform.start(timeout=180)
        yield platform
    finally:
        platform.destroy()


class _Watched:
    """Containers that end with the code somebody writes into their volume."""

    def __init__(self, platform: Platform, api: Api) -> None:
        self.platform, self.api = platform, api
        api.post("/images/starter")
        self.rows: dict[str, dict[str, Any]] = {}

    def start(self, name: str, **fields: Any) -> None:
        self.rows[name] = self.api.post(
            "/containers",
            {
                "image": "slipway/starter:latest",
                "name": name,
                "command": ["sh", "-c", _WAITS_FOR_A_WORD],
                "env": {"NAME": name},
                "volumes": ["ctl:/ctl"],
                "start": True,
            }
            | fields,
        )

    def pid(self, name: str) -> int:
        run = self.platform.run / "containers" / self.rows[name]["id"][:32] / "state.json"
        pid: int = json.loads(run.read_text())["pid"]
        return pid

    def end(self, name: str, code: int) -> None:
        (self.platform.root / "volumes" / "ctl" / "_data" / name).write_text(f"{code}\n")

    def shown(self, name: str) -> dict[str, Any] | None:
        try:
            row: dict[str, Any] = self.api.get(f"/containers/{self.rows[name]['id']}")
        except (httpx.HTTPError, AssertionError):
            return None
        return row

    def wait_ended(self, name: str) -> dict[str, Any]:
        """The container's row, once it says that the container has ended."""

        def ended() -> dict[str, Any] | None:
            row = self.shown(name)
            return row if row and row["status"] == "exited" else None

        return wait_until(ended, timeout=TRUTH, every=0.1, what=f"the end of {name} is shown")


def _kill(platform: Platform, name: str) -> None:
    pid = platform.pid(name)
    if pid:
        os.kill(pid, signal.SIGKILL)


def _all_run(platform: Platform) -> bool:
    processes = platform.status()["processes"].values()
    return bool(processes) and all(p["state"] == "running" for p in processes)


@pytest.mark.parametrize("seed", [1, 2])
def test_kill_9_of_every_process_in_any_order_loses_nothing(own: Platform, seed: int) -> None:
    watched = _Watched(own, own.api())
    order = ["web", "worker", "watcher", "launcher", "resolver", "redis"]
    random.Random(seed).shuffle(order)
    for name in (*order, "stays"):
        watched.start(name)
    pids = {name: watched.pid(name) for name in watched.rows}
    born = {name: start_time(pid) for name, pid in pids.items()}
    for number, name in enumerate(order):
        _kill(own, name)
        # One container ends in the very moment its name's process is away.
        watched.end(name, 10 + number)
    wait_until(lambda: _all_run(own), timeout=60, every=0.1, what="every process runs again")
    for number, name in enumerate(order):
        row = watched.wait_ended(name)
        assert row["exit_code"] == 10 + number, name
    assert start_time(pids["stays"]) == born["stays"] != 0
    stays = watched.shown("stays")
    assert stays is not None
    assert stays["status"] == "running"
    # And it is still in our hands.
    watched.end("stays", 42)
    assert watched.wait_ended("stays")["exit_code"] == 42


def test_containers_outlive_the_platform_and_are_adopted(own: Platform) -> None:
    watched = _Watched(own, own.api())
    watched.start("stays")
    watched.start("ends")
    watched.start("goes", auto_remove=True, volumes=["ctl:/ctl", "/scratch"])
    watched.start("returns", restart={"name": "always", "max_retries": 0})
    pid, born = watched.pid("stays"), start_time(watched.pid("stays"))
    returning = watched.pid("returns")
    own.stop()
    assert start_time(pid) == born
    watched.end("ends", 7)
    watched.end("goes", 0)
    os.kill(returning, signal.SIGKILL)
    # The shim alone restarts by policy: nothing else of the platform runs.
    wait_until(lambda: watched.pid("returns") not in (0, returning), timeout=15)
    # The quickest of three: this machine may be busy with something else.
    seconds = [own.start()]
    for _ in range(2):
        if min(seconds) >= 3.0:
            own.stop()
            seconds.append(own.start())
    assert min(seconds) < 3.0, seconds
    assert watched.wait_ended("ends")["exit_code"] == 7
    wait_until(lambda: watched.shown("goes") is None, timeout=TRUTH, every=0.1)
    assert not own.config.bundle(watched.rows["goes"]["id"]).exists()
    assert [p.name for p in own.config.volumes.iterdir()] == ["ctl"]
    stays = watched.shown("stays")
    assert stays is not None
    assert stays["status"] == "running"
    assert start_time(pid) == born
    stopped = watched.api.post(f"/containers/{stays['id']}/kill")
    assert stopped["status"] in ("exited", "running")


def test_who_is_to_go_when_it_ends_goes_however_it_ends(own: Platform) -> None:
    """Also within the operation that starts or stops it, whose own work it must not disturb."""
    watched = _Watched(own, own.api())
    watched.start("stopped", auto_remove=True)
    watched.start("quick", auto_remove=True, command=["true"])
    refused = {"image": "slipway/starter:latest", "name": "never", "command": ["no-such-thing"]}
    watched.api.post("/containers", {**refused, "auto_remove": True}, expect=422)
    watched.api.post(f"/containers/{watched.rows['stopped']['id']}/stop")

    def left() -> list[str]:
        return [row["name"] for row in watched.api.get("/containers")]

    wait_until(lambda: not left(), timeout=2 * TRUTH, every=0.1, what="all three are removed")
    assert list(own.config.containers.iterdir()) == []


def test_a_second_up_says_so_and_changes_nothing(own: Platform) -> None:
    before = own.status()
    again = own.slipway("up")
    assert again.returncode == 0
    assert f"already up at {own.url}/" in again.stdout
    assert own.status()["processes"] == before["processes"]


def test_an_up_that_meets_a_platform_going_down_waits_for_it(own: Platform) -> None:
    assert own.process
    going = own.process
    going.send_signal(signal.SIGINT)
    wait_until(lambda: "Stopping the platform" in own.log, what="it goes down")
    own.start()
    assert going.wait(timeout=10) == 0
    assert own.status()["running"]


def test_down_with_containers_leaves_nothing_in_the_kernel(own: Platform) -> None:
    watched = _Watched(own, own.api())
    watched.start("one", ports=[f"{free_port()}:80"])
    pid = watched.pid("one")
    done = own.slipway("down", "--containers")
    assert done.returncode == 0, done.stdout + done.stderr
    assert start_time(pid) == 0
    tag = own.config.tag
    assert not [name for name in os.listdir("/sys/class/net") if name.startswith(tag)]
    cgroups = list(Path("/sys/fs/cgroup").glob(f"{own.config.cgroup}*"))
    cgroups += list(Path("/sys/fs/cgroup").glob(f"*/{own.config.cgroup}*"))
    assert cgroups == []
    assert str(own.base) not in Path("/proc/self/mounts").read_text()
    assert own.slipway("status").returncode == 3


def test_after_a_reboot_nothing_is_shown_as_running_that_is_not(own: Platform) -> None:
    watched = _Watched(own, own.api())
    port = free_port()
    watched.start("plain")
    watched.start("always", restart={"name": "always", "max_retries": 0}, ports=[f"{port}:80"])
    before = watched.pid("always")
    own.stop()
    _lose_power(own)
    own.start()
    ended = watched.wait_ended("plain")
    assert (ended["exit_code"], ended["exit_reason"]) == (None, "reboot")

    def again() -> bool:
        row = watched.shown("always")
        return row is not None and row["status"] == "running"

    wait_until(again, timeout=2 * TRUTH, every=0.1, what="the restart policy holds")
    assert watched.pid("always") != before
    watched.api.post(f"/containers/{ended['id']}/start")
    assert watched.pid("plain") > 0


def _lose_power(platform: Platform) -> None:
    """What a reboot leaves of an instance: its root. Processes, tmpfs, links, tables, cgroups are gone.

    The kernel's boot id stays what it is here, so what was noted under it is moved to an earlier boot.
    """
    config = platform.config
    states = [json.loads(p.read_text()) for p in (config.run / "containers").glob("*/state.json")]
    # The monitors first, so that none can write an exit record.
    for field in ("shim_pid", "pid"):
        for run in states:
            os.kill(run[field], signal.SIGKILL)
    wait_until(lambda: not any(start_time(run["pid"]) for run in states))
    for name in os.listdir("/sys/class/net"):
        if name.startswith(config.tag):
            subprocess.run(["ip", "link", "delete", name], check=False, capture_output=True)
    subprocess.run(["nft", "delete", "table", "inet", config.nft_table], check=True)
    for top in Path("/sys/fs/cgroup").glob(f"*/{config.cgroup}"):
        for directory, _, _ in os.walk(top, topdown=False):
            os.rmdir(directory)
    shutil.rmtree(config.run)
    earlier = "00000000-0000-0000-0000-000000000000"
    for bundle in config.containers.glob("*/"):
        note = json.loads(os.getxattr(bundle, "trusted.slipway.active")) | {"boot_id": earlier}
        os.setxattr(bundle, "trusted.slipway.active", json.dumps(note).encode())
    with closing(sqlite3.connect(config.db / "slipway.sqlite3")) as database:
        database.execute("UPDATE hosts_host SET boot_id = ?", (earlier,))
        database.commit()
