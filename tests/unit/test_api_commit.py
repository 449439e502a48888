"""/api/v1/containers/{key}/commit: what the host is asked for, who may ask, what is refused and by which field."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from runtime.errors import ArchiveInvalid
from runtime.model.image import ImageConfig, ImageRecord
from tests.support.web import DIGEST, Site
from webui.containers.models import Container
from webui.images.models import Image, Reference
from webui.operations.models import Event, Operation
from workers import base, instance
from workers.tasks import containers as tasks

MADE = "sha256:" + "ef" * 32


@pytest.fixture
def web(site: Site) -> Container:
    return site.running("web")


class Engine:
    """Makes one image; remembers what was asked for, and what was taken back."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.removed: list[str] = []
        self.thawed: list[str] = []
        self.error: Exception | None = None
        self.commits = SimpleNamespace(commit=self._commit, thaw=self.thawed.append)
        self.there: list[ImageRecord] = []
        self.images = SimpleNamespace(remove=self.removed.append, records=lambda: self.there)

    def _commit(self, container_id: str, changes: Any, **options: Any) -> Any:
        self.asked.append((container_id, changes, options["pause"]))
        if self.error is not None:
            raise self.error
        record = ImageRecord(MADE, ImageConfig(cmd=("sh",)), (), created=changes.created)
        return SimpleNamespace(image=record, left_out=("/dev/x",))


@pytest.fixture
def engine(site: Site, monkeypatch: pytest.MonkeyPatch) -> Engine:
    made = Engine()
    monkeypatch.setattr(instance, "engine", lambda: made)
    monkeypatch.setattr(tasks, "container_seen", lambda job: {})
    return made


def run(operation_id: str) -> Operation:
    base.execute(operation_id, tasks.commit, tasks._run_on, kind="container.commit")
    return Operation.objects.get(pk=operation_id)


def test_the_host_is_asked_for_the_container_as_it_runs(site: Site) -> None:
    site.make(
        "web", command=["sleep", "9"], env=["B=2"], labels={"a": "1"}, working_dir="/srv",
        user="33", expose=["80"], volumes=["/data"], stop_signal="SIGINT",
        health={"command": "true", "interval": "5s"},
    )  # fmt: skip
    body = {
        "reference": "mine/app:1",
        "message": "why",
        "author": "me",
        "pause": False,
        "changes": ["CMD run it", "ENV C=$B$PATH"],
    }
    row = site.api().post("containers/web/commit", body)
    assert (row["kind"], row["target_name"]) == ("container.commit", "web")
    assert site.sent[-1][:2] == ("container.commit", row["id"])
    params = Operation.objects.get(pk=row["id"]).params
    asked = params["changes"]
    assert (params["reference"], params["pause"]) == ("docker.io/mine/app:1", False)
    assert asked["cmd"] == ["/bin/sh", "-c", "run it"]
    assert asked["env"] == ["B=2", "C=2/bin"]
    assert (asked["working_dir"], asked["user"], asked["stop_signal"]) == ("/srv", "33", "SIGINT")
    assert (asked["exposed_ports"], asked["volumes"]) == (["80/tcp"], ["/data"])
    assert asked["labels"] == {"a": "1"}
    assert asked["healthcheck"]["Test"] == ["CMD", "/bin/sh", "-c", "true"]
    assert asked["healthcheck"]["Interval"] == 5 * 10**9
    assert (asked["author"], asked["comment"]) == ("me", "why")


def test_what_the_image_says_itself_is_not_said_again(site: Site, web: Container) -> None:
    row = site.api().post("containers/web/commit", {})
    asked = Operation.objects.get(pk=row["id"]).params["changes"]
    said = {k: v for k, v in asked.items() if v not in (None, [], {}, "")}
    assert set(said) == {"created"}


def test_a_name_is_given_when_the_image_is_there(
    site: Site, web: Container, engine: Engine
) -> None:
    row = site.api().post("containers/web/commit", {"reference": "mine"})
    assert not Reference.objects.filter(name__contains="mine").exists()
    ended = run(row["id"])
    assert ended.result["id"] == MADE
    assert ended.result["left_out"] == ["/dev/x"]
    assert Reference.objects.get(name="docker.io/library/mine:latest").image.digest == MADE
    event = Event.objects.get(type="container.committed")
    assert (event.user, event.data["reference"]) == (
        site.users["operator"],
        "docker.io/library/mine:latest",
    )
    assert engine.asked[0][0] == web.pk
    # Once more, as after a worker's death: it is there, and stays the one.
    Operation.objects.filter(pk=ended.pk).update(status="pending", finished_at=None)
    assert run(row["id"]).result["id"] == MADE
    assert (len(engine.asked), engine.thawed) == (1, [web.pk])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"reference": "Not A Name"}, "reference"),
        ({"reference": "a@sha256:" + "0" * 64}, "reference"),
        ({"reference": "a" * 64}, "reference"),
        ({"reference": "a:b:c"}, "reference"),
        ({"changes": ["USER a", "RUN make"]}, "changes[1]"),
        ({"changes": "FROM x"}, "changes[0]"),
        ({"message": "a\0"}, "message"),
        ({"nonsense": 1}, "nonsense"),
        ({"pause": "perhaps"}, "pause"),
    ],
)
def test_bad_input_is_named_by_its_field(site: Site, web: Container, body: Any, field: str) -> None:
    error = site.api().post("containers/web/commit", body, expect=422)
    assert error["extra"]["field"] == field
    assert site.sent[-1][0] != "container.commit"


def test_a_name_that_another_image_has_is_moved_only_when_asked(
    site: Site, web: Container, engine: Engine
) -> None:
    body = {"reference": "slipway/starter"}
    error = site.api().post("containers/web/commit", body, expect=409)
    assert (error["code"], error["extra"]["field"]) == ("already_exists", "reference")
    ended = run(site.api().post("containers/web/commit", {**body, "replace": True})["id"])
    assert ended.status == "succeeded"
    assert Reference.objects.get(name="docker.io/slipway/starter:latest").image.digest == MADE


def test_a_name_taken_meanwhile_leaves_no_image(site: Site, web: Container, engine: Engine) -> None:
    row = site.api().post("containers/web/commit", {"reference": "mine"})
    site.add_image("library/mine:latest", "sha256:" + "12" * 32)
    ended = run(row["id"])
    assert ended.error is not None
    assert ended.error["code"] == "already_exists"
    assert engine.removed == [MADE]
    assert not Image.objects.filter(digest=MADE).exists()


def test_a_failure_has_it_run_on_and_leaves_nothing(
    site: Site, web: Container, engine: Engine
) -> None:
    engine.error = ArchiveInvalid("too deep")
    ended = run(site.api().post("containers/web/commit", {"reference": "mine"})["id"])
    assert ended.error is not None
    assert ended.error["message"] == "too deep"
    assert engine.thawed == [web.pk]
    assert list(Image.objects.values_list("digest", flat=True)) == [DIGEST]


def test_an_image_that_a_worker_made_before_it_died_goes_with_the_failure(
    site: Site, web: Container, engine: Engine
) -> None:
    row = site.api().post("containers/web/commit", {})
    Operation.objects.filter(pk=row["id"]).update(attempts=1)
    created = Operation.objects.get(pk=row["id"]).params["changes"]["created"]
    engine.there = [
        ImageRecord(DIGEST, ImageConfig(), (), created="2026-01-02T03:04:05Z"),
        ImageRecord(MADE, ImageConfig(), (), created=created),
    ]
    engine.error = ArchiveInvalid("too deep")
    assert run(row["id"]).status == "failed"
    assert engine.removed == [MADE]


def test_waiting_answers_with_the_image(site: Site, web: Container) -> None:
    def work(operation: Operation) -> dict[str, Any]:
        Image.objects.create(host=site.host, digest=MADE)
        return {"id": MADE}

    site.work = work
    row = site.api().post("containers/web/commit?wait=true", {}, expect=201)
    assert row["id"] == MADE


@pytest.mark.parametrize("role", ["viewer", "read-only", "nobody"])
def test_only_operators_may(site: Site, web: Container, role: str) -> None:
    apis = {
        "viewer": site.api("viewer"),
        "read-only": site.api(read_only=True),
        "nobody": site.stranger(),
    }
    status = 401 if role == "nobody" else 403
    apis[role].post("containers/web/commit", {}, expect=status)


def test_one_that_is_not_there_or_not_whole_is_refused(site: Site, web: Container) -> None:
    site.api().post("containers/nobody/commit", {}, expect=404)
    Container.objects.update(status="restarting")
    error = site.api().post("containers/web/commit", {}, expect=409)
    assert error["code"] == "bad_state"
