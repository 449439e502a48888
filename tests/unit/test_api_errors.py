"""Every error below /api/v1/ is {code, message, extra}, whoever finds it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client

from tests.support.web import Site


def _error(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.content[:300]
    assert answer.headers["Content-Type"].startswith("application/json")
    body: dict[str, Any] = json.loads(answer.content)
    assert set(body) == {"code", "message", "extra"}
    assert body["code"]
    assert body["message"]
    return body


@pytest.mark.parametrize("path", ["nothing", "containers/a/b/c/d", "images/", ""])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_url_is_not_found(site: Site, method: str, path: str) -> None:
    client = site.api().client
    assert _error(client.generic(method, f"/api/v1/{path}"), 404)["code"] == "not_found"


def test_a_wrong_method_says_which_ones_there_are(site: Site) -> None:
    answer = site.api().client.put("/api/v1/containers")
    error = _error(answer, 405)
    assert error["code"] == "method_not_allowed"
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "POST"}
    assert "GET" in error["extra"]["hint"]


def test_a_stranger_is_told_to_sign_in(site: Site) -> None:
    assert _error(Client().get("/api/v1/containers"), 401)["code"] == "unauthorized"
    headers = {"Authorization": "Bearer slw_wrong"}
    assert _error(Client().get("/api/v1/containers", headers=headers), 401)


def test_a_browser_without_its_csrf_token_is_refused(site: Site) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(site.users["operator"], "django.contrib.auth.backends.ModelBackend")
    answer = browser.post("/api/v1/volumes", "{}", content_type="application/json")
    error = _error(answer, 403)
    assert error["code"] == "forbidden"
    assert "CSRF" in error["message"]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ("{", 400, ""),
        ("[]", 422, ""),
        ("null", 422, ""),
        ('{"name": 7}', 422, "name"),
        ('{"surprise": 1}', 422, ""),
        ("\xff", 400, ""),
    ],
)
def test_a_body_that_makes_no_sense_is_refused(
    site: Site, body: str, status: int, field: str
) -> None:
    client = site.api().client
    answer = client.post("/api/v1/volumes", body.encode("latin-1"), content_type="application/json")
    assert field in json.dumps(_error(answer, status))


def test_a_foreign_host_header_is_refused(site: Site, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["here"]
    answer = Client(raise_request_exception=False).get("/api/v1/containers", headers={"Host": "x"})
    _error(answer, 400)


def test_pages_keep_their_own_errors(site: Site) -> None:
    answer = Client().get("/nothing/")
    assert answer.status_code == 404
    assert answer.headers["Content-Type"].startswith("text/html")


def test_a_full_disk_below_the_database_is_named(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: Any) -> None:
        with closing(sqlite3.connect(":memory:")) as database:
            database.execute("PRAGMA max_page_count = 1")
            try:
                database.execute("CREATE TABLE one (it)")
            except sqlite3.OperationalError as error:
                raise OperationalError(str(error)) from error

    monkeypatch.setattr("webui.api.volumes.services.volume_create", full)
    browser = site.api().client
    answer = browser.post("/api/v1/volumes", '{"name": "v"}', content_type="application/json")
    error = _error(answer, 507)
    assert error["code"] == "storage_full"
    assert error["extra"]["hint"]
