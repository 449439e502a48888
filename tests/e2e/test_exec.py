"""Commands in running containers, through REST."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.platform import Api
from tests.support.waiting import wait_until


@pytest.fixture
def web(api: Api, starter: str) -> Iterator[str]:
    body = {"image": starter, "command": ["sleep", "1000"], "env": {"OWN": "1"}, "start": True}
    row = api.post("/containers", body)
    yield row["id"]
    api.delete(f"/containers/{row['id']}", force=True)


def run(api: Api, container: str, command: list[str] | str, **fields: Any) -> dict[str, Any]:
    answer = api.http.post(f"/containers/{container}/exec", json={"command": command} | fields)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


def test_its_output_and_exit_code_come_back(api: Api, web: str) -> None:
    script = "echo $OWN $MORE; pwd; echo oops >&2; exit 3"
    result = run(api, web, ["sh", "-c", script], env={"MORE": "2"}, workdir="/tmp")
    assert result == {
        "exit_code": 3, "stdout": "1 2\n/tmp\n", "stderr": "oops\n", "truncated": False
    }  # fmt: skip


def test_it_is_given_input(api: Api, web: str) -> None:
    text = "line\n" * 20_000
    assert run(api, web, "wc -c", stdin=text)["stdout"].strip() == str(len(text))


def test_much_output_is_cut_and_said_to_be(api: Api, web: str) -> None:
    result = run(api, web, ["sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x"])
    assert (len(result["stdout"]), result["truncated"]) == (1 << 20, True)


def test_a_terminal_and_every_capability_can_be_had(api: Api, web: str) -> None:
    assert run(api, web, "tty", tty=True)["stdout"] == "/dev/pts/0\r\n"
    plain = run(api, web, "grep CapEff /proc/self/status")["stdout"]
    full = run(api, web, "grep CapEff /proc/self/status", privileged=True)["stdout"]
    assert int(full.split()[1], 16) > int(plain.split()[1], 16)


def test_a_command_that_there_is_not_is_127(api: Api, web: str) -> None:
    result = run(api, web, "frobnicate")
    assert result["exit_code"] == 127
    assert "frobnicate" in result["stderr"]
    assert run(api, web, ["/etc/passwd"])["exit_code"] == 126


def test_one_that_takes_too_long_is_killed(api: Api, web: str) -> None:
    answer = api.http.post(f"/containers/{web}/exec", json={"command": "sleep 777", "timeout": 0.3})
    assert (answer.status_code, answer.json()["code"]) == (408, "timeout")
    wait_until(lambda: "sleep 777" not in run(api, web, "ps")["stdout"], what="it is killed")


def test_one_whose_client_goes_is_killed(api: Api, web: str) -> None:
    client = http.client.HTTPConnection(api.http.base_url.netloc.decode())
    headers = {"Authorization": f"Bearer {api.token}", "Content-Type": "application/json"}
    body = json.dumps({"command": "sleep 778"})
    client.request("POST", f"/api/v1/containers/{web}/exec", body, headers)
    wait_until(lambda: "sleep 778" in run(api, web, "ps")["stdout"], what="it runs")
    client.close()
    wait_until(lambda: "sleep 778" not in run(api, web, "ps")["stdout"], what="it is killed")


def test_one_that_is_detached_goes_on(api: Api, web: str) -> None:
    script = "yes | head -c 1000000; touch /tmp/done"
    answer = api.http.post(
        f"/containers/{web}/exec", json={"command": ["sh", "-c", script], "detach": True}
    )
    assert answer.status_code == 202
    wait_until(lambda: run(api, web, "ls /tmp/done")["exit_code"] == 0, what="it has ended")


def test_one_that_is_detached_is_known_by_its_id_and_pid(api: Api, web: str) -> None:
    body = {"command": ["sh", "-c", "read x </tmp/go; exit 9"], "detach": True, "user": "1234"}
    run(api, web, "mkfifo -m 666 /tmp/go")
    begun = api.http.post(f"/containers/{web}/exec", json=body).json()
    process = next(row for row in api.get(f"/containers/{web}/top") if row["user"] == 1234)
    assert (begun["pid"], begun["host_pid"]) == (process["pid"], process["host_pid"])
    path = f"/containers/{web}/exec/{begun['id']}"
    row = api.get(path)
    assert (row["running"], row["exit_code"], row["detached"]) == (True, None, True)
    assert (row["command"], row["user"]) == ("sh -c read x </tmp/go; exit 9", "1234")
    run(api, web, ["sh", "-c", "echo x >/tmp/go"])
    done = wait_until(lambda: None if (r := api.get(path))["running"] else r, what="its end")
    assert (done["exit_code"], done["finished_at"] >= done["started_at"]) == (9, True)
    commands = [row["command"] for row in api.get(f"/containers/{web}/exec")]
    assert commands == ["sh -c echo x >/tmp/go", "sh -c read x </tmp/go; exit 9",
                        "mkfifo -m 666 /tmp/go"]  # fmt: skip
    answer = api.http.get(f"/containers/{web}/exec/{'0' * 64}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"command": []}, "command"),
        ({"command": "echo 'open"}, "command"),
        ({"command": "true", "workdir": "tmp"}, "workdir"),
        ({"command": "true", "env": {"": "x"}}, "env"),
        ({"command": "true", "user": "nobody-known"}, "user"),
        ({"command": "true", "workdir": "/no/such/directory"}, "workdir"),
    ],
)
def test_what_makes_no_sense_is_named(api: Api, web: str, body: dict[str, Any], field: str) -> None:
    answer = api.http.post(f"/containers/{web}/exec", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["extra"]["field"] == field


def test_who_ran_what_is_recorded_and_nothing_runs_in_one_that_does_not(api: Api, web: str) -> None:
    run(api, web, "true", user="root")
    event = next(e for e in api.get("/events") if e["type"] == "container.exec")
    assert (event["user"], event["data"]["command"]) == ("admin", "true")
    api.post(f"/containers/{web}/stop", {"timeout": 0})
    answer = api.http.post(f"/containers/{web}/exec", json={"command": "true"})
    assert (answer.status_code, answer.json()["code"]) == (409, "bad_state")


def test_its_processes_are_listed_as_it_sees_them(api: Api, web: str) -> None:
    api.http.post(
        f"/containers/{web}/exec",
        json={"command": ["sh", "-c", "exec sleep 4242"], "user": "1234", "detach": True},
    )

    def asleep() -> list[dict[str, Any]] | None:
        found: list[dict[str, Any]] = api.get(f"/containers/{web}/top")
        # It may be on its way to sleep still.
        return found if any("4242" in r["command"] and r["state"] == "S" for r in found) else None

    rows = wait_until(asleep, what="the second process")
    first = rows[0]
    assert (first["pid"], first["user"], first["command"]) == (1, 0, "sleep 1000")
    second = next(row for row in rows if "4242" in row["command"])
    assert second["user"] == 1234
    assert second["memory"] > 0
    assert second["started_at"] >= first["started_at"] > 1_700_000_000
    api.post(f"/containers/{web}/stop", {"timeout": 0})
    answer = api.http.get(f"/containers/{web}/top")
    assert (answer.status_code, answer.json()["code"]) == (409, "bad_state")
