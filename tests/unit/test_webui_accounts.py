"""Signing in: cookies, lock-out, and pages that only those who are signed in see."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.support.web import Site
from webui.settings.environment import Environment

SESSION, CSRF = "slipway_session", "slipway_csrf"


def sign_in(client: Client, password: str = "viewer") -> int:
    return client.post("/login/", {"username": "viewer", "password": password}).status_code


def test_a_session_cookie_is_for_this_site_and_not_for_scripts(site: Site) -> None:
    client = Client()
    assert sign_in(client) == 302
    cookie = client.cookies[SESSION]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
    assert client.get("/containers/").status_code == 200


def test_strangers_are_sent_to_sign_in(site: Site) -> None:
    for page in ("/", "/containers/", "/images/", "/account/", "/admin/"):
        answer = Client().get(page)
        assert answer.status_code == 302, page
        assert "/login/" in answer.headers["Location"]


def test_guessing_passwords_locks_that_name_for_that_address(site: Site) -> None:
    client = Client()
    for _ in range(10):
        assert sign_in(client, "wrong") in (422, 429)
    assert sign_in(client) == 429
    assert sign_in(Client(REMOTE_ADDR="192.0.2.7")) == 302


def test_leaving_ends_the_session(site: Site) -> None:
    client = Client()
    sign_in(client)
    client.post("/logout/")
    assert client.get("/containers/").status_code == 302


def test_every_answer_has_a_strict_policy(site: Site) -> None:
    client = Client()
    sign_in(client)
    for path in ("/", "/login/", "/api/v1/containers", "/nowhere/"):
        headers = client.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert "script-src 'self'" in policy
        assert "img-src 'self' data:" in policy
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_cookies_are_secure_where_the_site_is_https(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_HTTPS", "true")
    assert Environment().https is True
    monkeypatch.delenv("SLIPWAY_HTTPS")
    assert Environment().https is False


@pytest.mark.parametrize(
    ("url", "engine", "name", "host", "port"),
    [
        ("postgres://me:p%40ss@db.example:5433/slip", "postgresql", "slip", "db.example", "5433"),
        ("postgresql:///slip?host=/run/postgresql", "postgresql", "slip", "/run/postgresql", ""),
        ("sqlite:////tmp/x.sqlite3", "sqlite3", "/tmp/x.sqlite3", None, None),
    ],
)
def test_a_database_url_is_read(
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    engine: str,
    name: str,
    host: str | None,
    port: str | None,
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    made = Environment().database()
    assert made["ENGINE"].endswith(engine)
    assert (made["NAME"], made.get("HOST"), made.get("PORT")) == (name, host, port)
    assert made.get("PASSWORD", "") in ("p@ss", "")


def test_another_kind_of_database_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://x/y")
    with pytest.raises(ValueError, match="DATABASE_URL"):
        Environment().database()
