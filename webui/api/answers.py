"""202 with an operation, or the finished thing when the client waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Generic, TypeVar, cast

from ninja import Query, Schema, Status
from pydantic import Field

from runtime.errors import EngineError, from_payload
from webui.core.dispatch import wait_for
from webui.core.payloads import operation_row
from webui.core.rows import OperationRow
from webui.operations.models import Operation

# Databases count rows in 64 bits; no list is longer than this.
FURTHEST = 2**31 - 1

T = TypeVar("T")

# What a change answers when it is done (`wait`), or 202 and its operation. Ninja is to look at neither.
MADE: Any = {201: Any, 202: Any}
DONE: Any = {200: Any, 202: Any}


class Answer(Status[T | OperationRow], Generic[T]):
    """A T, or the row of an operation with 202."""

    __slots__ = ()


class Wait(Schema):
    """`?wait=true` answers when the operation has ended, or with 202 after `timeout` seconds."""

    wait: bool = False
    timeout: float = Field(default=60.0, gt=0, le=600)


WaitQuery = Annotated[Wait, Query()]


def answer(
    wait: Wait,
    operation: Operation,
    result: Callable[[], T],
    status: int = 200,
    *,
    target_row: bool = False,
) -> Answer[T]:
    """Answer as the client asked. A failed operation raises its error, with its own HTTP number.

    `target_row` says that `result` is the row of the operation's target, so that one that comes with
    the end of the operation does as well.
    """
    if not wait.wait:
        return Answer(202, operation_row(operation))
    ended, row = wait_for(operation, wait.timeout)
    if row is not None and target_row:
        return Answer(status, cast("T", row))
    if ended.is_live:
        return Answer(202, operation_row(ended))
    if ended.error is not None:
        raise _error(ended)
    return Answer(status, result())


def operation_now(operation: Operation) -> OperationRow:
    """Its row as it is now: for what leaves nothing else to answer with."""
    operation.refresh_from_db()
    return operation_row(operation)


def _error(operation: Operation) -> EngineError:
    payload: dict[str, Any] = operation.error or {}
    error = from_payload(payload)
    # An instance's own code wins over its class's: an unknown one must reach the client as it is.
    error.code = str(payload.get("code", error.code))
    error.extra.setdefault("operation", str(operation.pk))
    return error
