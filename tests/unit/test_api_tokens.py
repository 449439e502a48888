"""/api/v1/tokens, and how programs and browsers prove who they are."""

from __future__ import annotations

from datetime import timedelta

from django.test import Client
from django.utils import timezone

from tests.support.web import Api, Site
from webui.accounts.models import ApiToken
from webui.accounts.services import token_create


def test_a_token_is_shown_once_and_works(site: Site) -> None:
    made = site.api().post("tokens", {"name": "ci", "read_only": True}, expect=201)
    assert made["token"].startswith("slw_")
    stored = ApiToken.objects.get(name="ci")
    assert made["token"] not in (stored.digest, stored.prefix)
    assert made["token"].startswith(stored.prefix)
    rows = site.api().get("tokens")
    assert all("token" not in row and "digest" not in row for row in rows)
    api = Api(Client(headers={"Authorization": f"Bearer {made['token']}"}))
    api.get("containers")
    assert ApiToken.objects.get(name="ci").last_used_at is not None
    api.post("volumes", {"name": "x"}, expect=403)
    api.post("tokens", {"name": "more"}, expect=403)


def test_bad_input_names_the_field(site: Site) -> None:
    assert site.api().post("tokens", {"name": ""}, expect=422)["extra"]["field"] == "name"
    body = {"name": "x", "expires_in_days": 0}
    assert site.api().post("tokens", body, expect=422)["extra"]["field"] == "expires_in_days"


def test_people_see_and_revoke_their_own_only(site: Site) -> None:
    token, text = token_create(user=site.users["admin"], name="theirs")
    api = site.api("operator")
    assert "theirs" not in [row["name"] for row in api.get("tokens")]
    api.delete(f"tokens/{token.pk}", expect=404)
    Api(Client(headers={"Authorization": f"Bearer {text}"})).delete(
        f"tokens/{token.pk}", expect=204
    )
    assert not ApiToken.objects.filter(pk=token.pk).exists()


def test_wrong_expired_and_locked_tokens_are_refused(site: Site) -> None:
    def answer(text: str) -> int:
        headers = {"Authorization": f"Bearer {text}"}
        return Client(headers=headers).get("/api/v1/containers").status_code

    assert answer("slw_wrong") == 401
    assert answer("") == 401
    past = timezone.now() - timedelta(seconds=1)
    _, text = token_create(user=site.users["admin"], name="old", expires_at=past)
    assert answer(text) == 401
    _, text = token_create(user=site.users["viewer"], name="new")
    assert answer(text) == 200
    site.users["viewer"].is_active = False
    site.users["viewer"].save()
    assert answer(text) == 401


def test_a_browser_needs_its_csrf_token_to_change_things(site: Site) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(site.users["operator"])
    assert browser.get("/api/v1/containers").status_code == 200
    body = {"name": "data"}
    refused = browser.post("/api/v1/volumes", body, content_type="application/json")
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    browser.get("/account/")
    token = browser.cookies["slipway_csrf"].value
    done = browser.post(
        "/api/v1/volumes", body, content_type="application/json", headers={"X-CSRFToken": token}
    )
    assert done.status_code == 202
    assert done.json()["via"] == "ui"


def test_strangers_are_told_how_to_sign_in(site: Site) -> None:
    error = site.stranger().get("containers", expect=401)
    assert error["code"] == "unauthorized"
    assert "slw_" in error["message"]
