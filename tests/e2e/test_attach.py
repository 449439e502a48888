"""Attaching to a container's own process, over the websocket and REST."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.support.platform import Api, Platform
from tests.support.terminals import Attached
from tests.support.waiting import wait_until

Run = Callable[..., str]
Attach = Callable[..., Attached]


@pytest.fixture
def run(api: Api, starter: str) -> Iterator[Run]:
    made = []

    def begin(*command: str, **fields: Any) -> str:
        body = {"image": starter, "command": list(command), "start": True, "init": False}
        made.append(api.post("/containers", body | fields)["id"])
        return str(made[-1])

    yield begin
    for container in made:
        api.delete(f"/containers/{container}", force=True)


@pytest.fixture(scope="session")
def session(platform: Platform) -> httpx.Client:
    return platform.browser_session()


@pytest.fixture
def attach(platform: Platform, session: httpx.Client) -> Attach:
    def begin(container: str, **query: Any) -> Attached:
        return Attached(session, platform.url, container, **query)

    return begin


def test_two_clients_share_a_terminal_and_its_last_size(api: Api, run: Run, attach: Attach) -> None:
    web = run("sh", tty=True)
    with attach(web, rows=30, columns=90) as one, attach(web) as two:
        assert one.first() == two.first() == {"tty": True, "stdin": True}
        one.type(b"stty size; echo do''ne\n")
        for client in (one, two):
            assert b"30 90\r\n" in client.wait_for(b"done\r\n")
        two.tell(size=[31, 91])
        two.type(b"stty size; echo re''sized\n")
        assert b"31 91\r\n" in one.wait_for(b"resized\r\n")
        answer = api.http.post(f"/containers/{web}/resize", json={"rows": 32, "columns": 92})
        assert answer.status_code == 204
        two.type(b"stty size; echo by''rest\n")
        assert b"32 92\r\n" in one.wait_for(b"byrest\r\n")
        one.type(b"exit 5\n")
        for client in (one, two):
            assert client.end() == ({"exit_code": 5, "restarting": False}, 1000)
    events = [e for e in api.get("/events") if e["type"] == "container.attach"]
    assert (events[0]["user"], events[0]["data"]["stdin"]) == ("admin", True)


def test_the_log_comes_first_when_asked_for(api: Api, run: Run, attach: Attach) -> None:
    web = run("sh", "-c", "echo one; echo two; echo three; exec cat", stdin=True)
    wait_until(lambda: "three" in api.http.get(f"/containers/{web}/logs").text, what="its output")
    with attach(web) as without, attach(web, logs=1) as whole, attach(web, logs=2) as part:
        for client in (without, whole, part):
            client.first()
        without.type(b"typed\n")
        assert without.wait_for(b"typed\n") == b"typed\n"
        assert whole.wait_for(b"typed\n") == b"one\ntwo\nthree\ntyped\n"
        assert part.wait_for(b"typed\n") == b"two\nthree\ntyped\n"


def test_detaching_leaves_it_running(api: Api, run: Run, attach: Attach) -> None:
    web = run("cat", stdin=True, tty=True)
    with attach(web) as client:
        client.type(b"before\n\x10")
        client.wait_for(b"before")
        client.type(b"\x11after\n")
        assert client.end() == ({"detached": True}, 1000)
        assert b"after" not in client.output
    with attach(web, detach_keys="ctrl-x,d") as client:
        client.type(b"\x10\x11not by these\n")
        client.wait_for(b"not by these")
        client.type(b"\x18d")
        assert client.end() == ({"detached": True}, 1000)
    assert api.get(f"/containers/{web}")["status"] == "running"


def test_without_a_terminal_bytes_are_only_bytes(run: Run, attach: Attach) -> None:
    web = run("cat", stdin=True)
    with attach(web) as client:
        client.type(bytes(range(256)) * 200)
        wait = client.wait_for(bytes(range(256)) * 200)
        assert wait == bytes(range(256)) * 200
        assert client.first() == {"tty": False, "stdin": True}


def test_input_for_one_client_ends_with_it(run: Run, attach: Attach) -> None:
    web = run("wc", "-c", stdin=True, stdin_once=True)
    with attach(web) as client:
        for _ in range(40):
            client.type(bytes(50_000))
        client.tell(end_of_input=True)
        assert client.end(30)[0] == {"exit_code": 0, "restarting": False}
        assert client.output.split() == [b"2000000"]


def test_streams_can_be_chosen_and_input_left_out(run: Run, attach: Attach) -> None:
    web = run("sh", "-c", "read x; echo out; echo err >&2", stdin=True)
    with attach(web, stdin=0, stderr=0) as out, attach(web, stdout=0) as err:
        assert out.first() == {"tty": False, "stdin": False}
        out.type(b"for nobody\n")
        err.first()
        err.type(b"\n")
        out.end(), err.end()
        assert (out.output, err.output) == (b"out\n", b"err\n")


def test_a_slow_client_stalls_nobody(run: Run, attach: Attach) -> None:
    web = run("sh", "-c", "read x; head -c 30000000 /dev/zero; echo done; read x", stdin=True)
    with attach(web) as slow, attach(web) as quick:
        slow.first()
        quick.type(b"\n")
        quick.wait_for(b"done\n", 60)
        quick.type(b"\n")
        for client in (quick, slow):
            assert client.end(60)[0]["exit_code"] == 0
            skipped = sum(message.get("skipped", 0) for message in client.said)
            assert len(client.output) + skipped == 30_000_005
        assert skipped > 10_000_000


def test_a_restart_ends_it_and_says_so(run: Run, attach: Attach) -> None:
    web = run("sh", "-c", "read x; exit 3", stdin=True, restart="always")
    with attach(web) as client:
        client.type(b"\n")
        assert client.end()[0] == {"exit_code": 3, "restarting": True}

    def attached_again() -> bool:
        with attach(web) as client:
            return "tty" in client.first()

    wait_until(attached_again, what="the next life")


@pytest.mark.parametrize(
    ("query", "field"),
    [({"detach_keys": "ctrl-1"}, "detach_keys"), ({"logs": "all"}, "logs"), ({"rows": "x"}, "rows"),
     ({"rows": 0, "columns": 0}, "size")],
)  # fmt: skip
def test_what_makes_no_sense_is_named(
    run: Run, attach: Attach, query: dict[str, Any], field: str
) -> None:
    web = run("cat", stdin=True, tty=True)
    with attach(web, **query) as client:
        error = client.end()[0]
        assert (error["code"], error["extra"]["field"]) == ("spec_invalid", field)


def test_what_cannot_be_is_said(api: Api, run: Run, attach: Attach) -> None:
    web = run("sleep", "1000")
    with attach(web) as client:
        assert client.first() == {"tty": False, "stdin": False}
    answer = api.http.post(f"/containers/{web}/resize", json={"rows": 1, "columns": 1})
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    answer = api.http.post(f"/containers/{web}/resize", json={"rows": 0, "columns": 1})
    assert answer.status_code == 422
    api.post(f"/containers/{web}/stop", {"timeout": 0})
    with attach(web) as client:
        assert client.end()[0]["code"] == "bad_state"
    answer = api.http.post(f"/containers/{web}/resize", json={"rows": 1, "columns": 1})
    assert (answer.status_code, answer.json()["code"]) == (409, "bad_state")


def test_input_is_given_and_output_taken_in_one_request(api: Api, run: Run) -> None:
    web = run("sh", "-c", "echo before; cat; echo err >&2; exit 6", stdin=True, stdin_once=True)
    wait_until(lambda: "before" in api.http.get(f"/containers/{web}/logs").text, what="its output")
    text = "line\n" * 20_000
    result = api.post(f"/containers/{web}/attach", {"stdin": text, "logs": 10})
    assert result == {
        "exit_code": 6, "restarting": False, "truncated": False,
        "stdout": f"before\n{text}", "stderr": "err\n",
    }  # fmt: skip
    answer = api.http.post(f"/containers/{web}/attach", json={})
    assert (answer.status_code, answer.json()["code"]) == (409, "bad_state")


def test_what_goes_on_after_the_time_is_left_alone(api: Api, run: Run) -> None:
    web = run("sh", "-c", "while read x; do echo $x; done", stdin=True, init=True)
    for word in ("one", "two"):
        result = api.post(f"/containers/{web}/attach", {"stdin": f"{word}\n", "timeout": 0.5})
        assert (result["exit_code"], result["stdout"]) == (None, f"{word}\n")
    assert api.get(f"/containers/{web}")["status"] == "running"


def test_a_terminal_can_be_detached_from_and_its_command_goes_on(
    api: Api, run: Run, attach: Attach
) -> None:
    web = run("sleep", "1000")
    command = "sh -c 'stty -echo; while read x; do echo got $x; done; sleep 0.2; exit 8'"
    with attach(web, what="terminal", command=command, detach_keys="ctrl-a,d") as client:
        client.type(b"one\n")
        client.wait_for(b"got one")
        client.type(b"\x04\x01dnot this\n")
        assert client.end() == ({"detached": True}, 1000)
    row = api.get(f"/containers/{web}/exec")[0]
    assert (row["detached"], row["tty"]) == (True, True)
    path = f"/containers/{web}/exec/{row['id']}"
    assert wait_until(lambda: api.get(path)["exit_code"], what="its end") == 8
    with attach(web, what="terminal", detach_keys="ctrl-1") as client:
        assert client.end()[0]["extra"]["field"] == "detach_keys"


def test_a_terminal_that_is_given_nonsense_says_so(run: Run, attach: Attach, api: Api) -> None:
    web = run("sleep", "1000")
    with attach(web, what="terminal", rows=0, columns=0) as client:
        assert client.end()[0]["extra"]["field"] == "size"
    with attach(web, what="terminal") as client:
        client.wait_for(b"#")
        client.tell(size=[0, 0])
        assert client.end()[0]["extra"]["field"] == "size"

    def alone() -> bool:
        return [row["pid"] for row in api.get(f"/containers/{web}/top")] == [1]

    wait_until(alone, what="no shell to be left")
