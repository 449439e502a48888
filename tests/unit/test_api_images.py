"""/api/v1/images: pull, import, starter, tag and removal; what is kept and what is cleaned up."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile

from runtime.model.image import ImageConfig, ImageRecord
from tests.support.web import DIGEST, Api, Site
from webui.api import uploads
from webui.images.models import Image, Registry
from webui.images.services import image_apply, pull_access, registry_access, registry_save
from webui.operations.models import Operation
from webui.operations.services import operation_succeed

OTHER = "sha256:" + "cd" * 32


@pytest.fixture
def spool() -> Path:
    """Empty before, and looked into after."""
    path: Path = settings.SLIPWAY.spool
    for left in path.iterdir():
        left.unlink()
    return path


def send(api: Api, content: bytes, query: str = "", **fields: str) -> Any:
    archive = SimpleUploadedFile("rootfs.tar", content)
    return api.client.post(f"/api/v1/images/import{query}", {**fields, "archive": archive})


def test_an_upload_lies_in_the_spool_for_the_operation_that_imports_it(
    site: Site, spool: Path
) -> None:
    content = bytes(range(256)) * 20_000
    answer = send(site.api(), content, reference="mine:1")
    assert answer.status_code == 202
    operation = answer.json()
    assert operation["kind"] == "image.import"
    assert operation["target_name"] == "docker.io/library/mine:1"
    assert site.sent[0][:2] == ("image.import", operation["id"])
    assert [p.name for p in spool.iterdir()] == [operation["id"]]
    assert (spool / operation["id"]).read_bytes() == content
    params = Operation.objects.get().params
    assert params == {"reference": "docker.io/library/mine:1", "filename": "rootfs.tar"}


def test_waiting_for_an_import_answers_with_the_image(site: Site, spool: Path) -> None:
    def work(operation: Operation) -> dict[str, Any]:
        record = ImageRecord(id=OTHER, config=ImageConfig(cmd=("sh",)), layers=(), size=5)
        image_apply(host=site.host, record=record, references=[operation.params["reference"]])
        return {"id": OTHER}

    site.work = work
    answer = send(site.api(), b"tar", "?wait=true", reference="mine:1")
    assert answer.status_code == 201
    row = answer.json()
    assert row["id"] == OTHER
    assert row["references"] == ["docker.io/library/mine:1"]


@pytest.mark.parametrize("role", ["viewer", "read-only", "nobody"])
def test_nothing_is_kept_of_an_upload_by_somebody_who_may_not(
    site: Site, spool: Path, role: str
) -> None:
    apis = {
        "viewer": site.api("viewer"),
        "read-only": site.api(read_only=True),
        "nobody": site.stranger(),
    }
    answer = send(apis[role], b"x" * 100_000)
    assert answer.status_code == (401 if role == "nobody" else 403)
    assert list(spool.iterdir()) == []
    assert site.sent == []


def test_a_bad_reference_keeps_nothing(site: Site, spool: Path) -> None:
    answer = send(site.api(), b"tar", reference="Not A Reference")
    assert answer.status_code == 422
    assert answer.json()["extra"]["field"] == "reference"
    assert list(spool.iterdir()) == []


def test_an_upload_over_the_limit_is_refused(site: Site, spool: Path, settings: Any) -> None:
    settings.UPLOAD_LIMIT = 1000
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    # Known by its length, and found out on the way.
    for size in (5000, 1500):
        answer = send(site.api(), b"x" * size)
        assert answer.status_code == 413
        error = answer.json()
        assert (error["code"], error["extra"]["field"]) == ("too_large", "archive")
        assert "SLIPWAY_UPLOAD_LIMIT" in error["extra"]["hint"]
        assert list(spool.iterdir()) == []


def test_a_full_disk_is_said_and_leaves_nothing(
    site: Site, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: uploads.SpooledUpload, chunk: bytes) -> None:
        with uploads._storage():
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(uploads.SpooledUpload, "add", full)
    answer = send(site.api(), b"tar")
    assert answer.status_code == 507
    assert answer.json()["code"] == "storage_full"
    assert list(spool.iterdir()) == []


def test_a_truncated_form_leaves_nothing(site: Site, spool: Path) -> None:
    body = (
        b'--cut\r\nContent-Disposition: form-data; name="archive"; filename="a.tar"\r\n\r\n'
        + b"x" * 50_000
    )
    api = site.api()
    answer = api.client.generic(
        "POST", "/api/v1/images/import", body, content_type="multipart/form-data; boundary=cut"
    )
    assert answer.status_code == 422
    assert list(spool.iterdir()) == []


def test_files_in_other_forms_are_not_kept(site: Site, spool: Path) -> None:
    archive = SimpleUploadedFile("x.tar", b"x" * 1000)
    api = site.api()
    api.client.post("/api/v1/images/starter", {"archive": archive})
    api.client.post("/login/", {"username": "a", "password": "b", "file": archive})
    assert list(spool.iterdir()) == []


def test_an_import_without_an_archive_says_so(site: Site) -> None:
    answer = site.api().client.post("/api/v1/images/import", {"reference": "a:1"})
    assert answer.status_code == 422
    assert answer.json()["extra"]["field"] == "archive"


def test_a_pull_names_the_image_in_full_and_forgets_its_credentials(site: Site) -> None:
    body = {"reference": "registry.example:5000/a/b", "username": "me", "password": "secret"}
    row = site.api().post("images/pull", body)
    assert (row["kind"], row["target_id"]) == ("image.pull", "registry.example:5000/a/b:latest")
    assert "secret" not in json.dumps(row)
    operation = Operation.objects.get()
    assert "secret" not in json.dumps(operation.params)
    assert pull_access(operation) == (("me", "secret"), False)
    operation_succeed(operation=operation, result={})
    assert Operation.objects.get().params == {"reference": "registry.example:5000/a/b:latest"}
    assert not Registry.objects.exists()


def test_a_cancelled_pull_forgets_its_credentials_too(site: Site) -> None:
    body = {"reference": "a/b", "username": "me", "password": "secret"}
    row = site.api().post("images/pull", body)
    site.api().post(f"operations/{row['id']}/cancel", expect=200)
    assert Operation.objects.get().params == {"reference": "docker.io/a/b:latest"}


def test_a_pull_without_credentials_uses_those_of_the_registry(site: Site) -> None:
    registry_save(hostname="registry.example:5000", username="kept", password="too")
    site.api().post("images/pull", {"reference": "registry.example:5000/a"})
    assert pull_access(Operation.objects.get()) == (("kept", "too"), False)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"reference": "Bad Name"}, "reference"),
        ({"reference": ""}, "reference"),
        ({"reference": "nginx:not a tag"}, "reference"),
        ({"reference": "nginx", "username": "me"}, "password"),
        ({"reference": "nginx", "password": "x"}, "username"),
        ({"reference": "nginx", "color": "red"}, "color"),
        ({}, "reference"),
    ],
)
def test_a_bad_pull_names_its_field(site: Site, fields: dict[str, Any], field: str) -> None:
    error = site.api().post("images/pull", fields, expect=422)
    assert error["extra"]["field"] == field
    assert site.sent == []


def test_only_an_admin_allows_plain_http(site: Site) -> None:
    body = {"reference": "registry.example:5000/a", "plain_http": True}
    site.api("operator").post("images/pull", body, expect=403)
    site.api("admin").post("images/pull", body)
    assert registry_access("registry.example:5000") == (None, True)


def test_the_starter_image_is_asked_for(site: Site) -> None:
    assert site.api().post("images/starter")["kind"] == "image.starter"


def test_images_are_listed_and_found(site: Site) -> None:
    api = site.api("viewer")
    (row,) = api.get("images")
    assert row["id"] == DIGEST
    for key in (DIGEST, DIGEST[7:19], "slipway/starter", "docker.io/slipway/starter:latest"):
        assert api.get(f"images/{key}")["id"] == DIGEST
    assert api.get("images/nginx", expect=404)["code"] == "not_found"


def test_a_tag_moves_to_the_image_that_gets_it(site: Site) -> None:
    site.add_image("library/other:1", OTHER)
    api = site.api()
    api.post(f"images/{OTHER}/tag", {"reference": "slipway/starter"}, expect=200)
    assert api.get("images/slipway/starter")["id"] == OTHER
    assert Image.objects.get(digest=DIGEST).references.count() == 0
    bad = {"reference": f"x@{DIGEST}"}
    assert api.post(f"images/{OTHER}/tag", bad, expect=422)["extra"]["field"] == "reference"
    api.post("images/nothing/tag", {"reference": "a"}, expect=404)


def test_one_of_several_names_is_taken_away_and_the_image_stays(site: Site) -> None:
    api = site.api()
    api.post(f"images/{DIGEST}/tag", {"reference": "second:1"}, expect=200)
    row = api.delete("images/second:1", expect=200)
    assert row["references"] == ["docker.io/slipway/starter:latest"]
    assert site.sent == []
    assert api.delete("images/slipway/starter")["kind"] == "image.remove"


def test_an_image_in_use_is_not_removed(site: Site) -> None:
    site.make("web")
    error = site.api().delete(f"images/{DIGEST}", expect=409)
    assert error["code"] == "image_in_use"
    assert error["extra"]["holders"] == ["web"]


def test_no_container_is_made_of_an_image_that_is_being_removed(site: Site) -> None:
    site.api().delete(f"images/{DIGEST}")
    error = site.api().post("containers", {"image": "slipway/starter"}, expect=409)
    assert (error["code"], error["extra"]["field"]) == ("conflict", "image")


@pytest.mark.parametrize("path", ["images/pull", "images/starter", f"images/{DIGEST}/tag"])
def test_who_may_only_look_changes_nothing(site: Site, path: str) -> None:
    body = {"reference": "nginx"}
    assert site.api("viewer").post(path, body, expect=403)["code"] == "forbidden"
    site.stranger().post(path, body, expect=401)
    site.api("viewer").delete(f"images/{DIGEST}", expect=403)
    assert site.sent == []


def test_the_name_of_an_upload_is_never_a_path(site: Site, spool: Path) -> None:
    archive = SimpleUploadedFile("../../evil.tar", b"x")
    answer = site.api().client.post("/api/v1/images/import", {"archive": archive})
    (kept,) = spool.iterdir()
    assert uuid.UUID(kept.name) == uuid.UUID(answer.json()["id"])
