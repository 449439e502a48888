"""/api/v1/volumes"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Router
from pydantic import Field

from webui.api.answers import DONE, MADE, Answer, WaitQuery, answer, operation_now
from webui.api.auth import operator, reader
from webui.containers.requests import Request
from webui.core.payloads import volume_row
from webui.core.rows import OperationRow, VolumeRow
from webui.hosts.selectors import current_host
from webui.volumes import services

router = Router()


class VolumeRequest(Request):
    name: str = Field(min_length=1)
    labels: dict[str, str] = Field(default_factory=dict)


@router.get("", response=list[Any])
def volume_list(request: HttpRequest) -> list[VolumeRow]:
    reader(request)
    return [volume_row(v) for v in services.volumes()]


@router.post("", response=MADE)
def volume_create(request: HttpRequest, body: VolumeRequest, wait: WaitQuery) -> Answer[VolumeRow]:
    user, via = operator(request)
    host = current_host()
    _, operation = services.volume_create(
        host=host, name=body.name, labels=body.labels, user=user, via=via
    )
    return answer(wait, operation, lambda: volume_row(services.volume_find(host, body.name)), 201)


@router.get("/{name}", response=Any)
def volume_get(request: HttpRequest, name: str) -> VolumeRow:
    reader(request)
    return volume_row(services.volume_find(current_host(), name))


@router.delete("/{name}", response=DONE)
def volume_remove(request: HttpRequest, name: str, wait: WaitQuery) -> Answer[OperationRow]:
    """Remove it with its data; refused while a container mounts it."""
    user, via = operator(request)
    volume = services.volume_find(current_host(), name)
    operation = services.volume_remove(volume=volume, user=user, via=via)
    return answer(wait, operation, lambda: operation_now(operation))
