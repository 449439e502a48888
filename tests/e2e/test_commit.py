"""An image of what a container has made, through REST: run, change, commit, run that."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.live import Live
from tests.support.platform import Api, Platform
from tests.support.waiting import wait_until


@pytest.fixture
def changed(api: Api, starter: str) -> Iterator[str]:
    """The URL of a container that runs and has changed its files."""
    script = "echo told > /root/file; rm /etc/passwd; echo ready; exec sleep 1000"
    body = {"image": starter, "command": ["sh", "-c", script], "env": ["A=1"], "start": True}
    url = f"/containers/{api.post('/containers', body)['id']}"
    wait_until(lambda: "ready" in api.http.get(f"{url}/logs").text, what="the changes")
    yield url
    api.delete(url, force=True)


def test_what_a_container_has_changed_runs_as_an_image(
    api: Api, platform: Platform, changed: str
) -> None:
    body = {
        "reference": "made/here:1",
        "message": "the first",
        "changes": ["CMD cat /root/file; echo A=$A; cat /etc/passwd 2>&1; pwd", "WORKDIR /root"],
    }
    with Live(platform.browser_session(), platform.url) as live:
        live.subscribe("images")
        live.wait_for(lambda m: m["type"] == "snapshot")
        image = api.post(f"{changed}/commit", body)
        assert image["references"] == ["docker.io/made/here:1"]
        row = live.wait_for(
            lambda m: m["type"] == "row" and m["topic"] == "images" and m["data"]["references"]
        )
        assert row["data"]["id"] == image["id"]
    assert api.get(changed)["status"] == "running"
    found = api.get(f"/images/{image['id']}")
    assert found["config"]["env"][-1] == "A=1"
    assert len(found["history"]) == image["layers"]

    # As it is, without a name: the same command, so the file is written anew.
    second = api.post(f"{changed}/commit", {"pause": False})
    assert second["references"] == []
    assert second["id"] != image["id"]
    assert api.get(f"/images/{second['id']}")["config"]["cmd"][-1].startswith("echo told")

    ran = f"/containers/{api.post('/containers', {'image': 'made/here:1', 'start': True})['id']}"
    try:
        wait_until(lambda: api.get(ran)["status"] == "exited", what="its end")
        logs = api.http.get(f"{ran}/logs").text.splitlines()
        assert logs[:2] == ["told", "A=1"]
        assert "No such file" in logs[2]
        assert logs[3] == "/root"
    finally:
        api.delete(ran, force=True)
        api.delete(f"/images/{second['id']}")

    refused = api.http.post(f"{changed}/commit", json={"reference": "made/here:1"})
    assert (refused.status_code, refused.json()["code"]) == (409, "already_exists")
    moved = api.post(f"{changed}/commit", {"reference": "made/here:1", "replace": True})
    assert moved["references"] == ["docker.io/made/here:1"]
    assert api.get(f"/images/{image['id']}")["references"] == []
    events = [e["type"] for e in api.get("/events")]
    assert "container.committed" in events
    for digest in (image["id"], moved["id"]):
        api.delete(f"/images/{digest}")


def test_a_worker_that_dies_meanwhile_leaves_one_image_and_a_container_that_runs(
    api: Api, platform: Platform, starter: str
) -> None:
    script = "head -c 150000000 /dev/zero > /root/large; echo ready; exec sleep 1000"
    body = {"image": starter, "command": ["sh", "-c", script], "start": True}
    row = api.post("/containers", body)
    url = f"/containers/{row['id']}"
    layers = platform.config.layers
    try:
        wait_until(lambda: "ready" in api.http.get(f"{url}/logs").text, what="the file")
        before = set(layers.iterdir())
        asked = api.call("POST", f"{url}/commit", json={"reference": "made/twice:1"})

        def operation() -> Any:
            return api.get(f"/operations/{asked['id']}")

        worker, bundle = platform.pid("worker"), platform.config.bundle(row["id"])
        noted = partial(os.listxattr, bundle)
        wait_until(
            lambda: "trusted.slipway.commit" in noted(), what="that it is frozen", every=0.01
        )
        os.kill(worker, signal.SIGKILL)
        wait_until(
            lambda: operation()["status"] not in ("pending", "running"), what="its end", timeout=60
        )
        ended = operation()
        assert (ended["status"], ended["attempts"]) == ("succeeded", 2), ended["error"]
        wait_until(lambda: api.get(url)["status"] == "running", what="that it runs on")
        pid = json.loads((platform.config.container_run(row["id"]) / "state.json").read_text())[
            "pid"
        ]
        # Frozen it would be D.
        assert Path(f"/proc/{pid}/stat").read_text().split()[2] == "S"
        assert api.get("/images/made/twice:1")["id"] == ended["result"]["id"]
        wait_until(
            lambda: len(set(layers.iterdir()) - before) == 1, what="the end of what was half"
        )
    finally:
        api.delete(url, force=True)
        api.delete("/images/made/twice:1")
