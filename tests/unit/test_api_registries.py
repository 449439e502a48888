"""/api/v1/registries: for admins; passwords go in and never come out."""

from __future__ import annotations

import pytest

from tests.support.web import Site
from webui.images.models import Registry
from webui.images.services import registry_access

NAME = "registry.example:5000"


def test_a_registry_is_kept_changed_and_forgotten(site: Site) -> None:
    api = site.api("admin")
    body = {"hostname": NAME, "username": "me", "password": "secret", "plain_http": True}
    row = api.post("registries", body, expect=201)
    assert row["has_password"] is True
    assert "password" not in row
    assert registry_access(NAME) == (("me", "secret"), True)
    api.patch(f"registries/{NAME}", {"plain_http": False}, expect=200)
    assert registry_access(NAME) == (("me", "secret"), False)
    api.patch(f"registries/{NAME}", {"username": ""}, expect=200)
    assert registry_access(NAME) == (None, False)
    assert [r["hostname"] for r in api.get("registries")] == [NAME]
    assert api.get(f"registries/{NAME}")["has_password"] is False
    api.delete(f"registries/{NAME}", expect=204)
    api.get(f"registries/{NAME}", expect=404)
    assert not Registry.objects.exists()


@pytest.mark.parametrize("hostname", ["", "https://registry.example", "a b", "just-a-word", "a/b"])
def test_a_bad_host_name_is_named(site: Site, hostname: str) -> None:
    error = site.api("admin").post("registries", {"hostname": hostname}, expect=422)
    assert error["extra"]["field"] == "hostname"


def test_docker_hub_has_one_name(site: Site) -> None:
    body = {"hostname": "index.docker.io", "username": "me", "password": "secret"}
    assert site.api("admin").post("registries", body, expect=201)["hostname"] == "docker.io"


def test_only_admins_see_and_change_them(site: Site) -> None:
    for api, expect in ((site.api("operator"), 403), (site.stranger(), 401)):
        api.get("registries", expect=expect)
        api.post("registries", {"hostname": NAME}, expect=expect)
