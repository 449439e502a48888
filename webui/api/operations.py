"""/api/v1/operations"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Router

from runtime.errors import NotFound
from webui.api.answers import FURTHEST
from webui.api.auth import operator, reader
from webui.core.payloads import operation_row
from webui.core.rows import OperationRow
from webui.operations import services
from webui.operations.models import Operation

router = Router()


@router.get("", response=list[Any])
def operation_list(
    request: HttpRequest, status: str = "", target: str = "", limit: int = 100, offset: int = 0
) -> list[OperationRow]:
    """Newest first, at most 500 at a time."""
    reader(request)
    found = Operation.objects.select_related("user")
    if status:
        found = found.filter(status=status)
    if target:
        found = found.filter(target_id=target)
    start = min(max(offset, 0), FURTHEST)
    return [operation_row(o) for o in found[start : start + min(max(limit, 1), 500)]]


@router.get("/{operation_id}", response=Any)
def operation_get(request: HttpRequest, operation_id: UUID) -> OperationRow:
    reader(request)
    return operation_row(_find(operation_id))


@router.post("/{operation_id}/cancel", response=Any)
def operation_cancel(request: HttpRequest, operation_id: UUID) -> OperationRow:
    """One that has not begun ends at once, a running one at its next step."""
    user, _ = operator(request)
    return operation_row(services.operation_cancel(operation=_find(operation_id), user=user))


def _find(operation_id: UUID) -> Operation:
    operation = Operation.objects.select_related("user", "host").filter(pk=operation_id).first()
    if operation is None:
        raise NotFound("There is no such operation.")
    return operation
