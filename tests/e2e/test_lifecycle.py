"""From HTTP to the kernel to the websocket, on a real busybox image."""

from __future__ import annotations

import json
import os
import socket
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.live import Live
from tests.support.platform import Api, Platform, free_port
from tests.support.waiting import wait_until

Create = Callable[..., dict[str, Any]]


@pytest.fixture
def create(api: Api, starter: str) -> Iterator[Create]:
    """Creates and starts a container of the starter image; removes it after the test."""
    made: list[str] = []

    def create_one(command: str | list[str], **fields: Any) -> dict[str, Any]:
        words = ["sh", "-c", command] if isinstance(command, str) else command
        body = {"image": starter, "command": words, "start": True} | fields
        row: dict[str, Any] = api.post("/containers", body)
        made.append(row["id"])
        return row

    yield create_one
    for container in made:
        api.http.request(
            "DELETE", f"/containers/{container}", params={"force": "true", "wait": "true"}
        )


def _wait_status(api: Api, container: str, status: str) -> dict[str, Any]:
    def check() -> dict[str, Any] | None:
        row: dict[str, Any] = api.get(f"/containers/{container}")
        return row if row["status"] == status else None

    return wait_until(check, every=0.05, what=f"{container[:12]} is {status}")


def test_a_container_runs_in_namespaces_of_its_own(
    platform: Platform, api: Api, create: Create
) -> None:
    row = create(["sleep", "600"], hostname="lantern")
    assert row["status"] == "running"
    run = _state(platform, row["id"])
    for name in ("pid", "mnt", "net", "uts", "ipc", "cgroup"):
        assert os.readlink(f"/proc/{run['pid']}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}")
    assert Path(f"/proc/{run['pid']}/root/etc/hostname").read_text().strip() == "lantern"


def test_a_published_port_answers_on_loopback_and_on_another_address(create: Create) -> None:
    port = free_port()
    create(
        "mkdir -p /www && echo hello > /www/index.html && exec httpd -f -p 80 -h /www",
        ports=[f"{port}:80"],
    )
    for host in ("127.0.0.1", _address_of_this_host()):
        fetch = partial(_fetch, f"http://{host}:{port}/")
        assert wait_until(fetch, every=0.05) == "hello\n"


def test_containers_of_one_network_find_each_other_by_name(api: Api, create: Create) -> None:
    network = api.post("/networks", {"name": "pair"})
    try:
        create(["sleep", "600"], name="beacon", network="pair")
        row = create(["ping", "-c", "1", "beacon"], network="pair")
        assert _wait_status(api, row["id"], "exited")["exit_code"] == 0
    finally:
        for name in ("beacon", row["id"]):
            api.delete(f"/containers/{name}", force=True)
        api.delete(f"/networks/{network['id']}")


def test_the_websocket_tells_every_change_and_follows_the_log(
    platform: Platform, api: Api, create: Create
) -> None:
    with Live(platform.browser_session(), platform.url) as live:
        live.subscribe("containers")
        live.wait_for(lambda m: m["type"] == "snapshot" and m["topic"] == "containers")
        row = create("echo out; echo err >&2; sleep 600", name="talker")
        ours = row["id"]
        live.wait_for(
            lambda m: (
                m["type"] == "row" and m["data"]["id"] == ours and m["data"]["status"] == "running"
            )
        )
        live.subscribe(f"logs:{ours}", "stats")
        lines: dict[str, str] = {}

        def both_lines(message: dict[str, Any]) -> bool:
            if message["topic"] == f"logs:{ours}" and message["type"] in ("snapshot", "lines"):
                lines.update({line["stream"]: line["text"] for line in message["data"]})
            return len(lines) == 2

        live.wait_for(both_lines)
        assert lines == {"stdout": "out", "stderr": "err"}
        live.wait_for(lambda m: m["type"] == "sample" and ours in m["data"])
        api.post(f"/containers/{ours}/kill")
        live.wait_for(
            lambda m: (
                m["type"] == "row" and m["data"]["id"] == ours and m["data"]["status"] == "exited"
            )
        )
        api.delete(f"/containers/{ours}")
        live.wait_for(lambda m: m["type"] == "gone" and m["data"]["id"] == ours)


def test_stop_start_keeps_the_writable_layer_and_remove_keeps_the_volume(
    platform: Platform, api: Api, create: Create
) -> None:
    row = create(
        "date >> /layer; date >> /data/volume; trap 'exit 5' TERM; while :; do sleep 0.1; done",
        volumes=["keeper:/data"],
    )
    container = row["id"]
    volume = platform.root / "volumes" / "keeper" / "_data" / "volume"
    wait_until(lambda: volume.exists() and volume.read_text().count("\n") == 1)
    stopped = api.post(f"/containers/{container}/stop")
    assert (stopped["status"], stopped["exit_code"]) == ("exited", 5)
    api.post(f"/containers/{container}/start")
    wait_until(lambda: volume.read_text().count("\n") == 2)
    pid = _state(platform, container)["pid"]
    assert Path(f"/proc/{pid}/root/layer").read_text().count("\n") == 2
    api.delete(f"/containers/{container}", force=True)
    assert not (platform.root / "containers" / container).exists()
    assert volume.read_text().count("\n") == 2
    api.delete("/volumes/keeper")
    assert not volume.exists()


def test_pause_freezes_and_unpause_goes_on(platform: Platform, api: Api, create: Create) -> None:
    row = create("while :; do date +%s.%N > /now; sleep 0.05; done")
    now = Path(f"/proc/{_state(platform, row['id'])['pid']}/root/now")
    wait_until(now.exists)
    assert api.post(f"/containers/{row['id']}/pause")["status"] == "paused"
    frozen = now.read_text()
    refused = api.post(f"/containers/{row['id']}/pause", expect=409)
    assert refused["code"] == "bad_state"
    assert now.read_text() == frozen
    assert api.post(f"/containers/{row['id']}/unpause")["status"] == "running"
    wait_until(lambda: now.read_text() not in ("", frozen))


def test_a_container_over_its_memory_is_shown_as_oom_killed(api: Api, create: Create) -> None:
    row = create("head -c 200000000 /dev/zero | tail", limits={"memory": "16m"})
    ended = _wait_status(api, row["id"], "exited")
    assert ended["oom_killed"] is True
    assert ended["exit_code"] == 137


def test_limits_are_in_the_kernel(platform: Platform, create: Create) -> None:
    row = create(["sleep", "600"], limits={"memory": "64m", "cpus": 0.5, "pids": 20})
    pid = _state(platform, row["id"])["pid"]
    assert _cgroup_value(pid, "memory", "memory.limit_in_bytes", "memory.max") == str(64 << 20)
    assert _cgroup_value(pid, "pids", "pids.max", "pids.max") == "20"


def _state(platform: Platform, container: str) -> dict[str, Any]:
    path = platform.run / "containers" / container[:32] / "state.json"
    state: dict[str, Any] = json.loads(path.read_text())
    return state


def _cgroup_value(pid: int, controller: str, v1: str, v2: str) -> str:
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return (Path("/sys/fs/cgroup") / controller / path[1:] / v1).read_text().strip()
    path = Path(f"/proc/{pid}/cgroup").read_text().splitlines()[-1].split(":", 2)[2]
    return (Path("/sys/fs/cgroup") / path[1:] / v2).read_text().strip()


def _fetch(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return str(answer.read().decode())
    except OSError:
        return None


def test_a_child_killed_for_memory_is_an_event_while_its_container_runs_on(
    platform: Platform, api: Api, create: Create
) -> None:
    session = platform.browser_session()
    command = "dd if=/dev/zero of=/dev/null bs=200M count=1; exec sleep 1000"
    with Live(session, platform.url) as live:
        live.subscribe("events")
        live.wait_for(lambda m: m["type"] == "snapshot")
        row = create(command, limits={"memory": "16m", "memory_swap": "16m"})
        live.wait_for(
            lambda m: m["topic"] == "events" and m["data"].get("type") == "container.oom",
            timeout=30,
        )
    target = {"target": row["id"], "type": "container.oom"}
    (event,) = api.get("/events", params=target)
    data = event["data"]
    assert (data["count"], data["limit"]) == (1, 16 << 20)
    if os.access("/dev/kmsg", os.R_OK):
        assert data["process"] == "dd"
        assert data["message"].startswith("The kernel killed dd (pid ")
    assert api.get(f"/containers/{row['id']}")["status"] == "running"
    page = session.get(f"/containers/{row['id']}/").text
    assert 'data-testid="oom-kill"' in page
    assert data["message"] in page


def _address_of_this_host() -> str:
    """The address a packet to elsewhere would come from; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def test_a_trace_shows_each_stage_of_a_start_and_leaves_nothing(
    platform: Platform, api: Api, starter: str
) -> None:
    before = [row["id"] for row in api.get("/containers")]
    done = platform.slipway("trace", "run", starter, "--times", "2", "-p", f"{free_port()}:80")
    assert done.returncode == 0, done.stderr
    stages = {line[:22].strip(): float(line[22:32]) for line in done.stdout.splitlines()[1:]}
    assert {"check and reserve", "create", "fork", "wire", "exec", "all"} <= stages.keys()
    assert stages["all"] > stages["fork"] > 0
    assert [row["id"] for row in api.get("/containers")] == before
    unknown = platform.slipway("trace", "run", "nowhere/nothing")
    assert unknown.returncode == 1
    assert "nowhere/nothing" in unknown.stderr
