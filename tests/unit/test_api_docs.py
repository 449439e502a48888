"""The OpenAPI document and the page made of it."""

from __future__ import annotations

import re

from django.test import Client

from tests.support.web import Site


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


def test_the_page_loads_nothing_from_elsewhere_and_runs_no_inline_script(site: Site) -> None:
    browser = Client()
    assert browser.get("/api/v1/docs").status_code == 302
    browser.force_login(site.users["viewer"])
    answer = browser.get("/api/v1/docs")
    html = answer.content.decode()
    assert answer.status_code == 200
    assert "/api/v1/containers/{key}/logs" in html
    assert "limits" in html
    assert not re.search(r'(src|href)="(https?:)?//', html)
    assert not re.search(r"<script(?![^>]*\bsrc=)(?![^>]*application/json)", html)
    policy = answer.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
