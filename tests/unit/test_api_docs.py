"""The OpenAPI document and the page made of it."""

from __future__ import annotations

import re
from dataclasses import fields, replace

import pytest
from django.test import Client
from openapi_spec_validator import validate

from runtime.model.stats import StatsData, StatsSample
from tests.support.answers import Answers
from tests.support.web import Site
from workers.watcher.stats import stats_data


def test_the_document_describes_every_endpoint(site: Site) -> None:
    paths = Client().get("/api/v1/openapi.json").json()["paths"]
    for path in (
        "/api/v1/containers/{key}/start",
        "/api/v1/containers/{key}/logs",
        "/api/v1/images/import",
        "/api/v1/networks/{key}",
        "/api/v1/volumes/{name}",
        "/api/v1/operations/{operation_id}/cancel",
        "/api/v1/registries",
    ):
        assert path in paths


def test_the_document_has_the_form_of_errors_for_every_operation(site: Site) -> None:
    document = Client().get("/api/v1/openapi.json").json()
    assert set(document["components"]["schemas"]["Error"]["required"]) == {
        "code",
        "message",
        "extra",
    }
    for methods in document["paths"].values():
        for operation in methods.values():
            content = operation["responses"]["default"]["content"]["application/json"]
            assert content["schema"] == {"$ref": "#/components/schemas/Error"}


def test_the_document_is_valid_openapi(site: Site) -> None:
    validate(Client().get("/api/v1/openapi.json").json())


# Streams and texts, and JSON of other processes that has no type yet.
UNTYPED = {
    "archive", "attach", "changes", "content", "exec", "export", "files", "logs", "run-line", "save", "{exec_id}",
}  # fmt: skip


def test_what_succeeds_has_a_form(site: Site) -> None:
    document = Client().get("/api/v1/openapi.json").json()
    schemas = document["components"]["schemas"]
    assert {"ContainerRow", "ContainerSpec", "EventRow", "OperationRow", "StatsData"} <= set(
        schemas
    )
    assert "exit_code" in schemas["ContainerRow"]["required"]
    assert "running" in schemas["ContainerRow"]["properties"]["status"]["enum"]
    for path, methods in document["paths"].items():
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                if status in ("204", "default") or path.rpartition("/")[2] in UNTYPED:
                    continue
                schema = answer["content"]["application/json"]["schema"]
                assert schema.get("items", schema).keys() & {"$ref", "anyOf"}, (path, status)
    made = document["paths"]["/api/v1/containers"]["post"]["responses"]
    assert set(made) == {"201", "202", "default"}
    assert made["202"]["content"]["application/json"]["schema"]["$ref"].endswith("/OperationRow")


def test_an_answer_that_differs_is_found(site: Site) -> None:
    answers = Answers(Client().get("/api/v1/openapi.json").json())
    row = site.api().get("networks/default")
    answers.check("GET", "/api/v1/networks/default?wait=true", 200, row)
    for wrong in ({**row, "colour": "red"}, {**row, "subnet": None}, {"id": row["id"]}):
        with pytest.raises(AssertionError, match=r"networks/\{key\}"):
            answers.check("GET", "/api/v1/networks/default", 200, wrong)
    with pytest.raises(AssertionError, match="does not know"):
        answers.check("GET", "/api/v1/networks/default", 201, row)


def test_what_the_sampler_makes_is_what_the_document_says_of_stats(site: Site) -> None:
    answers = Answers(Client().get("/api/v1/openapi.json").json())
    sample = StatsSample(id="a" * 64, time=1.0)
    for before in (None, sample):
        made = stats_data(replace(sample, time=2.0, memory=5), before)
        assert set(made) == {field.name for field in fields(StatsData)}
        answers.check("GET", "/api/v1/containers/web/stats", 200, made)
    answers.check("GET", "/api/v1/containers/web/stats", 200, None)


def test_the_page_loads_nothing_from_elsewhere_and_runs_no_inline_script(site: Site) -> None:
    browser = Client()
    assert browser.get("/api/v1/docs").status_code == 302
    browser.force_login(site.users["viewer"])
    answer = browser.get("/api/v1/docs")
    html = answer.content.decode()
    assert answer.status_code == 200
    assert "/api/v1/containers/{key}/logs" in html
    assert "limits" in html
    assert "Answers <code>202</code>: OperationRow" in html
    assert not re.search(r'(src|href)="(https?:)?//', html)
    assert not re.search(r"<script(?![^>]*\bsrc=)(?![^>]*application/json)", html)
    policy = answer.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
