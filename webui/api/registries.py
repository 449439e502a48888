"""/api/v1/registries: how to talk to registries. For admins; passwords go in and never come out."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Router, Status
from pydantic import Field
from typing_extensions import TypedDict

from webui.api.auth import admin
from webui.containers.requests import Request
from webui.images import services
from webui.images.models import Registry
from webui.images.selectors import registry_find

router = Router()


class RegistryRequest(Request):
    """An absent password leaves the one that is kept; an empty user name removes both."""

    username: str | None = Field(default=None, max_length=255)
    password: str | None = None
    plain_http: bool | None = None


class NewRegistryRequest(RegistryRequest):
    hostname: str


class RegistryRow(TypedDict):
    id: int
    hostname: str
    username: str
    has_password: bool
    plain_http: bool


def _row(registry: Registry) -> RegistryRow:
    return {
        "id": registry.pk,
        "hostname": registry.hostname,
        "username": registry.username,
        "has_password": bool(registry.encrypted_password),
        "plain_http": registry.plain_http,
    }


@router.get("", response=list[Any])
def registry_list(request: HttpRequest) -> list[RegistryRow]:
    admin(request)
    return [_row(registry) for registry in Registry.objects.order_by("hostname")]


@router.post("", response={201: Any})
def registry_create(request: HttpRequest, body: NewRegistryRequest) -> Status[RegistryRow]:
    """Make known, or change, how to talk to a registry: `registry.example:5000`."""
    admin(request)
    return Status(201, _row(services.registry_save(**body.model_dump())))


@router.get("/{hostname}", response=Any)
def registry_get(request: HttpRequest, hostname: str) -> RegistryRow:
    admin(request)
    return _row(registry_find(hostname))


@router.patch("/{hostname}", response=Any)
def registry_update(request: HttpRequest, hostname: str, body: RegistryRequest) -> RegistryRow:
    admin(request)
    registry = registry_find(hostname)
    return _row(services.registry_save(hostname=registry.hostname, **body.model_dump()))


@router.delete("/{hostname}", response={204: None})
def registry_remove(request: HttpRequest, hostname: str) -> Any:
    """Forget it and its password."""
    admin(request)
    services.registry_remove(registry=registry_find(hostname))
    return Status(204, None)
