"""An open page and a running operation, while Redis, the watcher and the worker are killed."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from runtime.kernel.procfs import start_time
from tests.support.live import Live
from tests.support.platform import Api, Platform
from tests.support.terminals import Attached
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(240)

# What a page may take to show the truth after a process was killed.
TRUTH = 5.0  # seconds


@pytest.fixture(scope="module")
def own() -> Iterator[Platform]:
    """A platform that the tests may break; it heals by itself, which is what they show."""
    platform = Platform()
    try:
        platform.start(timeout=180)
        yield platform
    finally:
        platform.destroy()


@pytest.fixture(scope="module")
def client(own: Platform) -> Iterator[Api]:
    api = own.api()
    api.post("/images/starter")
    yield api
    api.close()


@pytest.fixture
def page(own: Platform) -> Iterator[Live]:
    with closing(own.browser_session()) as session, Live(session, own.url) as live:
        yield live


def run(client: Api, name: str, command: str, **fields: Any) -> dict[str, Any]:
    row: dict[str, Any] = client.post(
        "/containers",
        {
            "image": "slipway/starter:latest",
            "name": name,
            "command": ["sh", "-c", command],
            "start": True,
            **fields,
        },
    )
    return row


def run_deaf(client: Api, name: str) -> dict[str, Any]:
    """One that does not heed SIGTERM, from when this returns."""
    row = run(client, name, "trap '' TERM; echo deaf; while :; do sleep 1; done")

    def has_said_so() -> bool:
        return "deaf" in client.http.get(f"/containers/{row['id']}/logs").text

    wait_until(has_said_so, every=0.05, what="its trap is set")
    return row


def kill(own: Platform, process: str) -> None:
    """SIGKILL, and wait until the supervisor has started it again."""
    pid = own.pid(process)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: own.pid(process) not in (0, pid), timeout=15, what=f"{process} is back")


def is_row(container: str, status: str) -> Callable[[dict[str, Any]], bool]:
    """A message that shows the container in this status: a row, or a snapshot with it."""

    def matches(message: dict[str, Any]) -> bool:
        if message["topic"] != "containers" or message["type"] not in ("row", "snapshot"):
            return False
        rows = message["data"] if message["type"] == "snapshot" else [message["data"]]
        return any(row["id"] == container and row["status"] == status for row in rows)

    return matches


def test_an_open_page_shows_the_truth_after_redis_was_killed(
    own: Platform, client: Api, page: Live
) -> None:
    row = run(client, "lives", "sleep 600")
    page.subscribe("containers")
    page.wait_for(is_row(row["id"], "running"))
    state = own.config.container_run(row["id"]) / "state.json"
    kill(own, "redis")
    # It ends in the very moment in which nobody can publish it.
    os.kill(int(_field(state.read_text(), "pid")), signal.SIGKILL)
    page.wait_for(is_row(row["id"], "exited"), timeout=TRUTH)
    # And rows flow again, on the same connection.
    client.post(f"/containers/{row['id']}/start")
    page.wait_for(is_row(row["id"], "running"), timeout=TRUTH)
    client.delete(f"/containers/{row['id']}", force=True)


def _field(text: str, name: str) -> Any:
    return json.loads(text)[name]


def test_logs_and_stats_go_on_after_the_watcher_was_killed(
    own: Platform, client: Api, page: Live
) -> None:
    row = run(client, "talks", "n=0; while :; do echo $n; n=$((n+1)); usleep 20000; done")
    topic = f"logs:{row['id']}"
    page.subscribe(topic, f"stats:{row['id']}")
    numbers: list[int] = []

    def heard(message: dict[str, Any]) -> bool:
        if message["topic"] == topic and message["type"] in ("snapshot", "lines"):
            numbers.extend(int(line["text"]) for line in message["data"])
        return len(numbers) >= wanted

    wanted = 20
    page.wait_for(heard)
    kill(own, "watcher")
    wanted = len(numbers) + 150
    page.wait_for(heard, timeout=15)
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "none twice, none lost"
    page.wait_for(lambda m: m["topic"] == f"stats:{row['id']}" and m["type"] == "sample")
    client.delete(f"/containers/{row['id']}", force=True)


def test_an_attachment_says_that_the_watcher_was_killed_and_the_process_goes_on(
    own: Platform, client: Api
) -> None:
    row = run(client, "reads", "while read x; do echo $x; done", stdin=True)
    with closing(own.browser_session()) as session:
        with Attached(session, own.url, row["id"]) as attached:
            attached.type(b"before\n")
            attached.wait_for(b"before\n")
            kill(own, "watcher")
            assert attached.end()[0]["code"] == "stream_unavailable"

        def again() -> bool:
            with Attached(session, own.url, row["id"], logs=1) as attached:
                if "tty" not in attached.first():
                    return False
                attached.type(b"after\n")
                return attached.wait_for(b"after\n") == b"before\nafter\n"

        wait_until(again, timeout=TRUTH, what="to be attached again")
    client.delete(f"/containers/{row['id']}", force=True)


def test_what_is_asked_for_while_redis_is_away_is_done_when_it_is_back(
    own: Platform, client: Api
) -> None:
    row = run(client, "waits", "sleep 600")
    redis = own.pid("redis")
    os.kill(redis, signal.SIGKILL)
    operation = client.call("POST", f"/containers/{row['id']}/kill", expect=202)

    def done() -> bool:
        status: str = client.get(f"/operations/{operation['id']}")["status"]
        return status == "succeeded"

    wait_until(done, timeout=15, every=0.1, what="the operation is done")
    assert client.get(f"/containers/{row['id']}")["status"] == "exited"
    client.delete(f"/containers/{row['id']}")


def test_an_operation_whose_worker_is_killed_is_done_by_the_next(
    own: Platform, client: Api
) -> None:
    # The stop takes its whole grace period.
    row = run_deaf(client, "stubborn")
    state = own.config.container_run(row["id"]) / "state.json"
    pid = int(_field(state.read_text(), "pid"))
    operation = client.call(
        "POST", f"/containers/{row['id']}/stop", json={"timeout": 4}, expect=202
    )

    def read() -> dict[str, Any]:
        shown: dict[str, Any] = client.get(f"/operations/{operation['id']}")
        return shown

    wait_until(lambda: read()["status"] == "running", every=0.05, what="the stop has begun")
    kill(own, "worker")

    def over() -> dict[str, Any] | None:
        shown = read()
        return None if shown["status"] in ("pending", "running") else shown

    ended = wait_until(over, timeout=30, every=0.1, what="the stop has ended")
    assert (ended["status"], ended["attempts"]) == ("succeeded", 2)
    assert start_time(pid) == 0
    assert client.get(f"/containers/{row['id']}")["exit_code"] == 137
    client.delete(f"/containers/{row['id']}")


def test_somebody_who_waits_gets_the_answer_although_redis_dies(own: Platform, client: Api) -> None:
    row = run_deaf(client, "slow")
    answers: list[dict[str, Any]] = []

    def stop() -> None:
        answers.append(client.post(f"/containers/{row['id']}/stop", {"timeout": 3}))

    waiting = threading.Thread(target=stop)
    redis = own.pid("redis")
    # Made before: that may take longer than the stop.
    with closing(own.api()) as other:

        def is_stopping() -> bool:
            operation = other.get(f"/containers/{row['id']}")["operation"]
            return bool(operation and operation["status"] == "running")

        waiting.start()
        wait_until(is_stopping, every=0.05, what="the stop has begun")
    os.kill(redis, signal.SIGKILL)
    waiting.join(timeout=30)
    assert [answer["status"] for answer in answers] == ["exited"]


def test_an_auto_remove_container_goes_when_it_ends(own: Platform, client: Api, page: Live) -> None:
    page.subscribe("containers")
    row = client.post(
        "/containers",
        {
            "image": "slipway/starter:latest",
            "name": "fleeting",
            "command": ["true"],
            "auto_remove": True,
            "start": True,
        },
    )
    page.wait_for(lambda m: m["type"] == "gone" and m["data"]["id"] == row["id"], timeout=TRUTH)
    assert not own.config.bundle(row["id"]).exists()
