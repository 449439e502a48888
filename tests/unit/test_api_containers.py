"""/api/v1/containers and its actions: they work, they validate, they check who may."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.web import DIGEST, Site, WorkFailed
from webui.containers.models import Container
from webui.containers.replica import container_delete_row
from webui.networks.models import Endpoint, PortReservation
from webui.operations.models import Operation
from webui.volumes.models import Volume

STARTER = "slipway/starter"


def test_a_container_is_made_and_its_operation_sent(site: Site) -> None:
    operation = site.api().post("containers", {"image": STARTER, "name": "web", "command": "ls -l"})
    assert operation["kind"] == "container.create"
    assert operation["status"] == "pending"
    assert operation["user"] == "operator"
    assert operation["via"] == "api"
    assert site.sent == [("container.create", operation["id"], f"host.{site.host.pk}")]
    container = Container.objects.get(name="web")
    assert operation["target_id"] == container.pk
    assert container.spec["process"]["args"] == ["ls", "-l"]
    assert container.spec["image"] == DIGEST
    assert container.endpoints.get().address == "172.30.0.2"
    assert Operation.objects.get().params == {"start": True}


def test_waiting_answers_with_the_row_when_the_worker_has_done_it(site: Site) -> None:
    def work(operation: Operation) -> dict[str, Any]:
        Container.objects.filter(pk=operation.target_id).update(status="running")
        return {}

    site.work = work
    row = site.api().post("containers?wait=true", {"image": STARTER, "name": "web"}, expect=201)
    assert row["name"] == "web"
    assert row["status"] == "running"
    assert row["operation"] is None


def test_waiting_raises_the_error_of_the_operation_with_its_number(site: Site) -> None:
    def work(operation: Operation) -> dict[str, Any]:
        raise WorkFailed(
            {
                "code": "init_failed",
                "message": "nope: not found in the container.",
                "hint": "Check the command.",
                "extra": {"field": "command", "exit_code": 127},
            }
        )

    site.work = work
    body = {"image": STARTER, "command": "nope"}
    error = site.api().post("containers?wait=true", body, expect=422)
    assert error["code"] == "init_failed"
    assert error["extra"]["field"] == "command"
    assert error["extra"]["exit_code"] == 127
    assert error["extra"]["hint"] == "Check the command."


def test_waiting_too_long_answers_with_the_operation(site: Site) -> None:
    body = {"image": STARTER}
    operation = site.api().post("containers?wait=true&timeout=0.05", body, expect=202)
    assert operation["status"] == "pending"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"image": "missing"}, "image"),
        ({"image": "UPPER case"}, "image"),
        ({"image": ""}, "image"),
        ({"name": "-bad"}, "name"),
        ({"command": "sh -c 'open"}, "command"),
        ({"working_dir": "relative"}, "working_dir"),
        ({"user": "a b"}, "user"),
        ({"env": ["NOVALUE"]}, "env[0]"),
        ({"ports": ["80:80", "x:y"]}, "ports[1]"),
        ({"ports": ["99999:80"]}, "ports[0]"),
        ({"limits": {"memory": "tiny"}}, "limits.memory"),
        ({"limits": {"memory": "4k"}}, "limits.memory"),
        ({"limits": {"cpus": "many"}}, "limits.cpus"),
        ({"limits": {"cpus": -1}}, "limits.cpus"),
        ({"limits": {"pids": "x"}}, "limits.pids"),
        ({"volumes": ["data:relative"]}, "volumes[0]"),
        ({"volumes": ["../x:/data"]}, "volumes[0]"),
        ({"volumes": ["a:/data", "b:/data"]}, "volumes[1]"),
        ({"mounts": [{"type": "bind", "target": "/data"}]}, "mounts[0].source"),
        ({"mounts": [{"type": "volume", "source": "a/b", "target": "/d"}]}, "mounts[0].source"),
        ({"mounts": [{"source": "a", "target": "/x/../.."}]}, "mounts[0].target"),
        ({"restart": "sometimes"}, "restart"),
        ({"network": "nowhere"}, "network"),
        ({"network": "container:nobody"}, "network"),
        ({"network": "host", "ports": ["80:80"]}, "ports"),
        ({"ip": "10.0.0.1"}, "ip"),
        ({"ip": "172.30.0.1"}, "ip"),
        ({"ip": "not an address"}, "ip"),
        ({"mac_address": "01:00:00:00:00:00"}, "mac_address"),
        ({"dns": ["nope"]}, "dns[0]"),
        ({"cap_add": ["what?"]}, "cap_add[0]"),
        ({"sysctls": {"kernel.panic": "1"}}, "sysctls.kernel.panic"),
        ({"stop_signal": "SIGNOPE"}, "stop_signal"),
        ({"memory": "512m"}, "memory"),
        ({"stop_timeout": "soon"}, "stop_timeout"),
    ],
)
def test_bad_input_names_the_field_and_leaves_nothing(
    site: Site, fields: dict[str, Any], field: str
) -> None:
    body = {"image": STARTER, "name": "web", **fields}
    answer = site.api().client.post("/api/v1/containers", body, content_type="application/json")
    error = answer.json()
    assert answer.status_code in (404, 422), error
    assert error["extra"]["field"] == field, error
    assert error["message"]
    for model in (Container, Endpoint, PortReservation, Volume, Operation):
        assert not model.objects.exists()
    assert site.sent == []


def test_what_is_taken_is_a_conflict_that_names_the_holder(site: Site) -> None:
    first = site.make("web", ports=["8080:80"], ip="172.30.0.9")
    api = site.api()

    error = api.post("containers", {"image": STARTER, "name": "web"}, expect=409)
    assert (error["code"], error["extra"]["field"]) == ("already_exists", "name")
    assert error["extra"]["holder"] == first.pk

    body = {"image": STARTER, "ports": ["90:90", "127.0.0.1:8080:81"]}
    error = api.post("containers", body, expect=409)
    assert (error["code"], error["extra"]["field"]) == ("port_in_use", "ports[1]")
    assert "web" in error["message"]
    assert "web" in error["extra"]["hint"]

    error = api.post("containers", {"image": STARTER, "ip": "172.30.0.9"}, expect=409)
    assert (error["code"], error["extra"]["field"]) == ("address_in_use", "ip")
    assert Container.objects.count() == 1


def test_the_same_port_of_another_protocol_or_address_is_free(site: Site) -> None:
    site.make("dns", ports=["127.0.0.1:53:53/tcp"])
    api = site.api()
    api.post("containers", {"image": STARTER, "ports": ["127.0.0.1:53:53/udp"]})
    api.post("containers", {"image": STARTER, "ports": ["127.0.0.2:53:53/tcp"]})
    api.post("containers", {"image": STARTER, "ports": ["0.0.0.0:53:53/tcp"]}, expect=409)


def test_the_list_filters_by_status_and_label(site: Site) -> None:
    site.running("one", labels={"tier": "web"})
    site.make("two", labels={"tier": "db"})
    api = site.api("viewer")
    assert [c["name"] for c in api.get("containers")] == ["two", "one"]
    assert [c["name"] for c in api.get("containers?status=running")] == ["one"]
    assert [c["name"] for c in api.get("containers?label=tier=db")] == ["two"]
    assert [c["name"] for c in api.get("containers?label=other")] == []


def test_one_is_found_by_name_id_and_first_digits(site: Site) -> None:
    container = site.make("web")
    api = site.api("viewer")
    for key in ("web", container.pk, container.pk[:12]):
        assert api.get(f"containers/{key}")["id"] == container.pk
    assert api.get("containers/nobody", expect=404)["code"] == "not_found"


def test_inspect_shows_the_whole_spec(site: Site) -> None:
    site.make("web", env={"A": "b"})
    whole = site.api().get("containers/web/inspect")
    assert whole["spec"]["process"]["env"] == ["PATH=/bin", "A=b"]
    assert whole["image_config"]["cmd"] == ["sh"]
    assert whole["hidden"] == []


def test_values_of_variables_are_for_those_who_may_run_commands(site: Site) -> None:
    site.make("web", env={"A": "hunter2", "EMPTY": ""})
    for api in (site.api("viewer"), site.api(read_only=True)):
        whole = api.get("containers/web/inspect")
        assert whole["spec"]["process"]["env"] == ["PATH=•••", "A=•••", "EMPTY=•••"]
        assert whole["image_config"]["env"] == ["PATH=•••"]
        assert whole["hidden"] == ["spec.process.env", "image_config.env"]
        assert whole["spec"]["process"]["args"] == ["sh"]
        image = api.get(f"images/{DIGEST}")
        assert (image["config"]["env"], image["config"]["cmd"]) == (["PATH=•••"], ["sh"])
        for path in ("containers", "containers/web", "containers/web/inspect", "operations"):
            assert "hunter2" not in str(api.get(path))
    assert site.api().get(f"images/{DIGEST}")["config"]["env"] == ["PATH=/bin"]


@pytest.mark.parametrize("action", ["stop", "restart", "kill", "pause"])
def test_actions_on_a_running_container_are_sent(site: Site, action: str) -> None:
    site.running("web")
    operation = site.api().post(f"containers/web/{action}")
    assert operation["kind"] == f"container.{action}"
    assert site.sent[-1][0] == f"container.{action}"


def test_parameters_of_actions_reach_the_worker(site: Site) -> None:
    site.running("web")
    site.api().post("containers/web/stop", {"timeout": 3, "signal": "SIGINT"})
    assert Operation.objects.first() is not None
    stop = Operation.objects.get(kind="container.stop")
    assert stop.params == {"timeout": 3.0, "signal": "SIGINT"}
    site.api().post("containers/web/kill", {"signal": "SIGHUP"})
    assert Operation.objects.get(kind="container.kill").params == {"signal": "SIGHUP"}
    error = site.api().post("containers/web/kill", {"signal": "SIGNOPE"}, expect=422)
    assert error["extra"]["field"] == "signal"


@pytest.mark.parametrize(
    ("status", "action"),
    [
        ("running", "start"),
        ("running", "unpause"),
        ("created", "stop"),
        ("exited", "kill"),
        ("exited", "pause"),
        ("paused", "start"),
    ],
)
def test_an_action_that_the_status_does_not_allow_says_what_is_possible(
    site: Site, status: str, action: str
) -> None:
    container = site.make("web")
    Container.objects.filter(pk=container.pk).update(status=status)
    before = Operation.objects.count()
    error = site.api().post(f"containers/web/{action}", expect=409)
    assert error["code"] == "bad_state"
    assert error["extra"]["status"] == status
    assert error["extra"]["allowed"]
    assert Operation.objects.count() == before


def test_removing_needs_a_stopped_container_or_force(site: Site) -> None:
    container = site.running("web")
    site.api().delete("containers/web", expect=409)

    def work(operation: Operation) -> dict[str, Any]:
        assert operation.params == {"force": True, "volumes": False}
        container_delete_row(container_id=operation.target_id)
        return {"id": operation.target_id}

    site.work = work
    done = site.api().delete("containers/web?force=true&wait=true", expect=200)
    assert done["status"] == "succeeded"
    assert done["target_id"] == container.pk
    assert not PortReservation.objects.exists()


def test_a_new_name_is_taken_at_once(site: Site) -> None:
    site.make("web")
    site.make("db")
    api = site.api()
    assert api.post("containers/web/rename", {"name": "db"}, expect=409)["extra"]["field"] == "name"
    assert api.post("containers/web/rename", {"name": "?"}, expect=422)["extra"]["field"] == "name"
    api.post("containers/web/rename", {"name": "front"})
    assert Container.objects.get(name="front").spec["name"] == "front"
    assert site.sent[-1][0] == "container.rename"


def test_limits_and_restart_policy_change_by_name(site: Site) -> None:
    site.running("web", limits={"memory": "256m", "cpus": 1})
    api = site.api()
    api.patch("containers/web", {"limits": {"memory": "512m"}, "restart": "always"})
    params = Operation.objects.get(kind="container.update").params
    assert params["limits"]["memory"] == 512 * 1024**2
    assert params["limits"]["cpus"] == 1.0
    assert params["restart"]["name"] == "always"
    error = api.patch("containers/web", {"limits": {"memory": "1k"}}, expect=422)
    assert error["extra"]["field"] == "limits.memory"
    error = api.patch("containers/web", {"limits": {"memroy": "1g"}}, expect=422)
    assert "memroy" in error["extra"]["field"]
    assert api.patch("containers/web", {}, expect=422)["message"] == "Nothing to change."


def test_limits_of_processes_and_of_shared_memory_change_too(site: Site) -> None:
    site.running("web", ulimits=["nofile=5:9"])
    api = site.api()
    change = {"ulimits": "core=0\nnofile=7:9\n", "shm_size": "1m"}
    api.patch("containers/web", change)
    params = Operation.objects.get(kind="container.update").params
    assert params == {
        "ulimits": [
            {"name": "core", "soft": 0, "hard": 0}, {"name": "nofile", "soft": 7, "hard": 9},
        ],
        "shm_size": 1024**2,
    }  # fmt: skip
    site.running("other")
    api.patch("containers/other", {"ulimits": None, "shm_size": None})
    params = Operation.objects.filter(kind="container.update").latest("created_at").params
    assert params == {"ulimits": [], "shm_size": 64 * 1024**2}
    for wrong, field in (
        ({"ulimits": ["core=0", "nofile=x"]}, "ulimits[1]"),
        ({"ulimits": ["nofile=9:5"]}, "ulimits[0]"),
        ({"shm_size": "1"}, "shm_size"),
    ):
        assert api.patch("containers/web", wrong, expect=422)["extra"]["field"] == field


def test_a_restart_may_name_the_signal_of_its_stop(site: Site) -> None:
    site.running("web")
    api = site.api()
    api.post("containers/web/restart", {"signal": "SIGINT", "timeout": 3})
    assert Operation.objects.get(kind="container.restart").params == {
        "signal": "SIGINT",
        "timeout": 3,
    }
    error = api.post("containers/web/restart", {"signal": "SIGNOT"}, expect=422)
    assert error["extra"]["field"] == "signal"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "containers"),
        ("DELETE", "containers/web"),
        ("PATCH", "containers/web"),
        ("POST", "containers/web/start"),
        ("POST", "containers/web/rename"),
        ("POST", "containers/web/silences"),
    ],
)
def test_who_may_only_look_changes_nothing(site: Site, method: str, path: str) -> None:
    site.make("web")
    sent = list(site.sent)
    body = {"image": STARTER, "name": "other", "rule": "x", "reason": "x"}
    if method == "PATCH":
        body = {"restart": "always"}
    if path.endswith("rename"):
        body = {"name": "other"}
    if path.endswith("silences"):
        body = {"rule": "privileged", "reason": "x"}
    if path == "containers":
        body = {"image": STARTER}
    error = site.api("viewer").call(method, path, body, expect=403)
    assert error["code"] == "forbidden"
    site.api("operator", read_only=True).call(method, path, body, expect=403)
    assert site.stranger().call(method, path, body, expect=401)["code"] == "unauthorized"
    assert site.sent == sent


def test_advice_can_be_silenced_with_a_reason_and_shown_again(site: Site) -> None:
    site.make("web")
    api = site.api()

    def rules() -> set[str]:
        return {advice["rule"] for advice in api.get("containers/web")["advice"]}

    assert {"no-memory-limit", "no-cpu-limit"} <= rules()
    assert (
        api.post("containers/web/silences", {"rule": "x", "reason": "y"}, expect=422)["extra"][
            "field"
        ]
        == "rule"
    )
    silence = {"rule": "no-cpu-limit", "reason": "it may use all"}
    api.post("containers/web/silences", silence, expect=201)
    assert "no-cpu-limit" not in rules()
    assert api.get("containers/web/silences")[0]["reason"] == "it may use all"
    api.delete("containers/web/silences/no-cpu-limit", expect=204)
    assert "no-cpu-limit" in rules()


def test_a_list_can_be_taken_in_parts(site: Site) -> None:
    for number in range(5):
        site.make(f"many-{number}", labels={"even": "yes"} if number % 2 == 0 else {})
    client = site.api().client

    def names(query: str) -> tuple[list[str], str]:
        answer = client.get(f"/api/v1/containers{query}")
        assert answer.status_code == 200, answer.content
        return [row["name"] for row in answer.json()], answer.headers["X-Total-Count"]

    assert names("") == ([f"many-{n}" for n in (4, 3, 2, 1, 0)], "5")
    assert names("?limit=2") == (["many-4", "many-3"], "5")
    assert names("?limit=2&offset=3") == (["many-1", "many-0"], "5")
    assert names("?offset=9") == ([], "5")
    assert names("?label=even=yes&limit=1") == (["many-4"], "3")
    assert names("?status=running") == ([], "0")
    for query in ("limit=-1", "offset=-1", "limit=x"):
        site.api("viewer").get(f"containers?{query}", expect=422)


def test_what_the_database_does_not_know_is_listed_apart(site: Site) -> None:
    site.make("web")
    strange = {"id": "5a" * 32, "name": "old", "status": "running"}
    type(site.host).objects.filter(pk=site.host.pk).update(unmanaged=[strange])
    (row,) = site.api("viewer").get("containers?unmanaged=true")
    assert row.items() >= {**strange, "managed": False}.items()
    assert row["path"].endswith(strange["id"])
    assert [each["name"] for each in site.api().get("containers")] == ["web"]
    assert site.api().get("hosts")[0]["unmanaged"] == [row]
