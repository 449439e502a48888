"""Errors of the runtime's tree as HTTP: the one place that knows the numbers."""

from __future__ import annotations

import re
import sqlite3
from typing import Any

from pydantic import ValidationError

from runtime import errors

STATUS: dict[type[errors.EngineError], int] = {
    errors.SpecInvalid: 422,
    errors.ArchiveInvalid: 422,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.BadState: 409,
    errors.Cancelled: 409,
    errors.Unsupported: 501,
    errors.RegistryError: 502,
    errors.StorageFull: 507,
    errors.InitFailed: 422,
    errors.LauncherUnavailable: 503,
    errors.LockTimeout: 503,
    errors.ShimLost: 500,
}


class NotAllowed(errors.EngineError):
    """Known, but not permitted."""

    code = "forbidden"


class NotSignedIn(errors.EngineError):
    code = "unauthorized"


class TooLarge(errors.EngineError):
    code = "too_large"


class TimedOut(errors.EngineError):
    code = "timeout"


STATUS |= {NotAllowed: 403, NotSignedIn: 401, TooLarge: 413, TimedOut: 408}


def database_full(error: BaseException) -> errors.StorageFull | None:
    """What a database says that has no room left, in our words; None for everything else it says."""
    cause = error.__cause__
    code = getattr(cause, "sqlite_errorcode", None)
    if code != sqlite3.SQLITE_FULL and getattr(cause, "sqlstate", None) != "53100":
        return None
    return errors.StorageFull(
        "The disk that the database lies on is full: nothing can be changed.",
        hint="Free space on it, then try again.",
    )


def http_status(error: errors.EngineError) -> int:
    """The number for an error; that of the nearest class above it in the tree, or of its code.

    Of the rest, 503 for what may pass by itself, 500 for what will not.
    """
    if isinstance(error, errors.CreateFailed):
        return http_status(error.error)
    for cls in type(error).__mro__:
        if cls in STATUS:
            return STATUS[cls]
    by_code = {cls.code: number for cls, number in STATUS.items()}
    return by_code.get(error.code, 503 if error.retryable else 500)


def payload_status(payload: dict[str, Any]) -> int:
    """The number for an error that an operation has kept as JSON."""
    return http_status(errors.from_payload(payload))


def body(payload: dict[str, Any]) -> dict[str, Any]:
    """REST's form of an error: {code, message, extra}, with hint and field inside `extra`."""
    extra = dict(payload.get("extra") or {})
    if payload.get("hint"):
        extra["hint"] = payload["hint"]
    if payload.get("retryable"):
        extra["retryable"] = True
    return {"code": payload["code"], "message": payload["message"], "extra": extra}


def from_validation(error: ValidationError) -> errors.SpecInvalid:
    """The first complaint of pydantic in our own form, with the dotted name of its field."""
    return from_complaint(error.errors()[0])


_BRANCH = re.compile(r"\[|Request$|^(int|str|float|bool)$")


def from_complaint(complaint: Any) -> errors.SpecInvalid:
    """One element of pydantic's (or ninja's) list of errors."""
    place = [
        p for p in complaint["loc"] if p not in ("body", "query", "path", "payload", "request")
    ]
    # Of a union pydantic says which branch it tried: no name of the request's.
    place = [p for p in place if isinstance(p, int) or not _BRANCH.search(p)]
    field = ""
    for part in place:
        field += f"[{part}]" if isinstance(part, int) else f".{part}" if field else str(part)
    message = str(complaint["msg"]).removeprefix("Value error, ")
    if complaint["type"] == "missing":
        message = "is required"
    elif complaint["type"] == "extra_forbidden":
        message = "is not a known field"
    return errors.SpecInvalid(
        field,
        f"{field or 'The request'}: {message}.".replace("..", "."),
        hint="/api/v1/docs shows every field and what it takes.",
    )
