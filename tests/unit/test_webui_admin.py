"""Django's admin: everything is there, facts are read-only, actions are operations."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from tests.support.seed import seed
from tests.support.web import Site
from webui.accounts.models import User
from webui.advisor.models import Silence
from webui.advisor.services import silence_create
from webui.containers.models import Container
from webui.images.models import Registry
from webui.images.services import registry_access
from webui.operations.models import Operation

OURS = [
    model
    for model in admin.site._registry
    if model.__module__.startswith("webui.")
]  # fmt: skip


@pytest.fixture
def staff(site: Site) -> Client:
    user = User.objects.create_superuser("root", password="x", role="admin")
    client = Client()
    client.force_login(user)
    return client


def url(model: Any, page: str, *args: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def act(client: Client, model: Any, action: str, *keys: Any) -> str:
    data = {"action": action, "_selected_action": [str(key) for key in keys]}
    answer: Any = client.post(url(model, "changelist"), data, follow=True)
    assert answer.status_code == 200
    return str(answer.content.decode())


def test_every_model_of_ours_is_there() -> None:
    names = {model.__name__ for model in OURS}
    assert names >= {
        "User", "ApiToken", "Host", "Image", "Reference", "Registry", "Container", "Network",
        "Endpoint", "PortReservation", "Volume", "VolumeMount", "Operation", "Event", "Silence",
    }  # fmt: skip


@pytest.mark.django_db
@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_lists_searches_and_pages_work(model: Any) -> None:
    seed()
    client = Client()
    client.force_login(User.objects.get(username="admin"))
    assert client.get(url(model, "changelist")).status_code == 200
    if model is not admin.site._registry and admin.site._registry[model].search_fields:
        assert client.get(url(model, "changelist"), {"q": "shop"}).status_code == 200
    one = model.objects.first()
    if one is not None:
        answer = client.get(url(model, "change", one.pk))
        assert answer.status_code == 200
        assert "unsafe" not in answer.headers["Content-Security-Policy"]


def test_observed_facts_cannot_be_written(staff: Client, site: Site) -> None:
    container = site.make("web")
    page = url(Container, "change", container.pk)
    assert staff.post(page, {"name": "other", "status": "dead"}).status_code == 403
    assert staff.get(url(Container, "add")).status_code == 403
    assert staff.post(url(Container, "delete", container.pk), {"post": "yes"}).status_code == 403
    container.refresh_from_db()
    assert (container.name, container.status) == ("web", "created")


def test_actions_are_operations_and_refusals_are_said(staff: Client, site: Site) -> None:
    one, two = site.running("one"), site.make("two")
    html = act(staff, Container, "stop", one.pk, two.pk)
    operation = Operation.objects.get(kind="container.stop")
    assert (operation.target_name, operation.via) == ("one", "admin")
    assert operation.user is not None
    assert operation.user.username == "root"
    assert "“two”: Cannot stop a container that is created." in html
    act(staff, Container, "remove", two.pk)
    assert Operation.objects.filter(kind="container.remove", target_id=two.pk).exists()


def test_an_operation_can_be_cancelled(staff: Client, site: Site) -> None:
    site.make("web")
    operation = Operation.objects.get()
    act(staff, Operation, "cancel", operation.pk)
    operation.refresh_from_db()
    assert operation.status == "cancelled"


def test_a_registry_is_edited_and_its_password_never_shown(staff: Client) -> None:
    data = {"hostname": "registry.example:5000", "username": "me", "password": "hunter2"}
    staff.post(url(Registry, "add"), data)
    registry = Registry.objects.get()
    assert registry_access("registry.example:5000") == (("me", "hunter2"), False)
    page = staff.get(url(Registry, "change", registry.pk)).content.decode()
    assert "hunter2" not in page
    assert registry.encrypted_password not in page
    staff.post(
        url(Registry, "change", registry.pk),
        {"hostname": registry.hostname, "username": "me", "password": "", "plain_http": "on"},
    )
    assert registry_access("registry.example:5000") == (("me", "hunter2"), True)
    answer = staff.post(url(Registry, "add"), {"hostname": "https://nope"})
    assert "is not a registry" in answer.content.decode()


def test_silenced_advice_can_be_shown_again(staff: Client, site: Site) -> None:
    container = site.make("web")
    silence = silence_create(container=container, rule="privileged", reason="x", user=None)
    act(staff, Silence, "show_again", silence.pk)
    assert not Silence.objects.exists()


def test_only_staff_gets_in(site: Site) -> None:
    client = Client()
    client.force_login(site.users["operator"])
    assert client.get("/admin/").status_code == 302
