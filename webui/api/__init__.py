"""REST under /api/v1/: the API object, its authentication, its errors."""

from __future__ import annotations

import functools
import logging
from typing import Any

from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import OperationalError
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError
from ninja.openapi.schema import OpenAPISchema
from pydantic import ValidationError as PydanticError

from runtime.errors import EngineError, NotFound
from webui.api import (
    archive,
    attach,
    containers,
    docs,
    events,
    execs,
    hosts,
    images,
    networks,
    operations,
    registries,
    schemas,
    silences,
    tokens,
    volumes,
)
from webui.api.auth import BearerAuth, SessionAuth
from webui.core import errors

logger = logging.getLogger(__name__)


class Api(NinjaAPI):
    def get_openapi_schema(
        self, *, path_prefix: str | None = None, path_params: dict[str, Any] | None = None
    ) -> OpenAPISchema:
        """The document, made once: it takes 0.3 s, and whoever reaches the platform may ask for it."""
        return self._document(path_prefix or self.get_root_path(path_params or {}))

    @functools.cache  # noqa: B019 - there is one API
    def _document(self, path_prefix: str) -> OpenAPISchema:
        schema = super().get_openapi_schema(path_prefix=path_prefix)
        views = {
            self.get_openapi_operation_id(operation): operation.view_func
            for router in self._get_bound_routers()
            for path in router.path_operations.values()
            for operation in path.operations
        }
        schemas.add_answers(schema, views)
        docs.add_errors(schema)
        return schema


api = Api(
    title="Slipway",
    version="1",
    description="Run and manage Linux containers. Changes answer 202 with an operation, or with "
    "`?wait=true` when they are done. Errors are `{code, message, extra}`.",
    auth=[BearerAuth(), SessionAuth()],
    docs=docs.Page(),
    urls_namespace="api",
)

for prefix, module in (
    ("/containers", containers),
    ("/containers", execs),
    ("/containers", attach),
    ("/containers", archive),
    ("/containers", silences),
    ("/images", images),
    ("/volumes", volumes),
    ("/networks", networks),
    ("/operations", operations),
    ("/events", events),
    ("/hosts", hosts),
    ("/registries", registries),
    ("/tokens", tokens),
):
    api.add_router(prefix, module.router, tags=[prefix.strip("/")])


def _answer(request: HttpRequest, error: EngineError) -> HttpResponse:
    body = errors.body(error.payload())
    return api.create_response(request, body, status=errors.http_status(error))


@api.exception_handler(EngineError)
def on_engine_error(request: HttpRequest, error: EngineError) -> HttpResponse:
    return _answer(request, error)


@api.exception_handler(ValidationError)
def on_invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    return _answer(request, errors.from_complaint(error.errors[0]))


@api.exception_handler(PydanticError)
def on_invalid_model(request: HttpRequest, error: PydanticError) -> HttpResponse:
    return _answer(request, errors.from_validation(error))


@api.exception_handler(AuthenticationError)
def on_stranger(request: HttpRequest, _: AuthenticationError) -> HttpResponse:
    message = "Sign in, or send a valid token: Authorization: Bearer slw_…"
    return _answer(request, errors.NotSignedIn(message))


@api.exception_handler(PermissionDenied)
def on_forbidden(request: HttpRequest, error: PermissionDenied) -> HttpResponse:
    return _answer(request, errors.NotAllowed(str(error) or "You may not do this."))


@api.exception_handler(Http404)
def on_missing(request: HttpRequest, error: Http404) -> HttpResponse:
    return _answer(request, NotFound(str(error) or "There is no such thing."))


@api.exception_handler(MultiPartParserError)
@api.exception_handler(SuspiciousOperation)
@api.exception_handler(UnreadablePostError)
def on_bad_body(request: HttpRequest, error: Exception) -> HttpResponse:
    body: dict[str, Any] = {"code": "bad_request", "message": str(error), "extra": {}}
    return api.create_response(request, body, status=400)


@api.exception_handler(OperationalError)
def on_database(request: HttpRequest, error: OperationalError) -> HttpResponse:
    full = errors.database_full(error)
    return _answer(request, full) if full else on_mistake(request, error)


@api.exception_handler(Exception)
def on_mistake(request: HttpRequest, error: Exception) -> HttpResponse:
    logger.error("%s %s failed unexpectedly.", request.method, request.path, exc_info=error)
    body: dict[str, Any] = {
        "code": "internal",
        "message": f"Slipway made a mistake: {type(error).__name__}.",
        "extra": {"hint": "The web process's log holds the details."},
    }
    return api.create_response(request, body, status=500)


@api.exception_handler(HttpError)
def on_http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    code = "forbidden" if error.status_code == 403 else "bad_request"
    body: dict[str, Any] = {"code": code, "message": str(error), "extra": {}}
    return api.create_response(request, body, status=error.status_code)
