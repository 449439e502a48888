"""The API's documentation page, made of its own OpenAPI document: no script, nothing from elsewhere."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from ninja import NinjaAPI
from ninja.openapi.docs import DocsBase

Schema = dict[str, Any]

_ERROR_NAME = "#/components/schemas/Error"
_ERROR: Schema = {
    "title": "Error",
    "type": "object",
    "required": ["code", "message", "extra"],
    "properties": {
        "code": {"type": "string", "description": "For programs: not_found, spec_invalid, …"},
        "message": {"type": "string", "description": "For people: what is wrong."},
        "extra": {
            "type": "object",
            "description": "What else is known.",
            "properties": {
                "field": {"type": "string", "description": "Of the request: limits.memory"},
                "hint": {"type": "string", "description": "The way out."},
                "operation": {"type": "string", "description": "The operation that failed."},
                "retryable": {"type": "boolean", "description": "The same may work later."},
            },
            "additionalProperties": True,
        },
    },
}


class Page(DocsBase):
    def render_page(self, request: HttpRequest, api: NinjaAPI, **_: Any) -> HttpResponse:
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        schema: Schema = api.get_openapi_schema()
        groups: dict[str, list[Schema]] = {}
        for path, methods in schema["paths"].items():
            for method, operation in methods.items():
                tag = (operation.get("tags") or ["other"])[0]
                groups.setdefault(tag, []).append(_endpoint(schema, path, method, operation))
        return render(request, "pages/api_docs.html", {"groups": groups, "schema": schema})


def add_errors(schema: Schema) -> None:
    """Say in the document that whatever else an operation answers is an error, and of which form."""
    schema["components"]["schemas"]["Error"] = _ERROR
    for methods in schema["paths"].values():
        for operation in methods.values():
            operation["responses"]["default"] = {
                "description": "An error; its status says of which kind.",
                "content": {"application/json": {"schema": {"$ref": _ERROR_NAME}}},
            }


def _endpoint(schema: Schema, path: str, method: str, operation: Schema) -> Schema:
    """One operation: {method, path, text, parameters and fields: [{name, place, required, kind}], answers}."""
    return {
        "method": method.upper(),
        "path": path,
        "text": operation.get("description") or operation.get("summary", ""),
        "parameters": [
            {
                "name": p["name"],
                "place": p["in"],
                "required": p.get("required", False),
                "kind": _kind(p.get("schema", {})),
            }
            for p in operation.get("parameters", [])
        ],
        "fields": _fields(schema, operation.get("requestBody", {}).get("content", {})),
        "answers": _answers(schema, operation["responses"]),
    }


def _answers(schema: Schema, responses: Schema) -> list[Schema]:
    """What success looks like: [{status, kind, fields: [{name, kind}]}]; of a list, the fields of each entry."""
    found = []
    for status, response in responses.items():
        if status == "default":
            continue  # errors, which the page describes once
        for media, body in response.get("content", {"": {}}).items():
            model = body.get("schema", {})
            entry = _resolved(schema, model.get("items", model))
            kind = _kind(model) if "json" in media else media
            fields = entry.get("properties", {}).items()
            found.append(
                {
                    "status": status,
                    "kind": kind or "nothing",
                    "fields": [{"name": name, "kind": _kind(field)} for name, field in fields],
                }
            )
    return found


def _fields(schema: Schema, content: Schema) -> list[Schema]:
    """The body's fields; each kind of body has a schema, mostly by reference."""
    found = []
    for kind, body in content.items():
        model = _resolved(schema, body.get("schema", {}))
        required = model.get("required", ())
        found += [
            {
                "name": name,
                "place": "form" if "form" in kind else "JSON",
                "required": name in required,
                "kind": _kind(field),
            }
            for name, field in model.get("properties", {}).items()
        ]
    return found


def _resolved(schema: Schema, model: Schema) -> Schema:
    """Follow a reference; of "this or nothing" take this."""
    for choice in model.get("anyOf", ()):
        if choice.get("type") != "null":
            return _resolved(schema, choice)
    if "$ref" in model:
        named: Schema = schema["components"]["schemas"][_name(model)]
        return named
    return model


def _name(model: Schema) -> str:
    return str(model["$ref"]).rpartition("/")[2]


def _kind(field: Schema) -> str:
    """ "string", "array of string", "string or null", a schema's name."""
    if "anyOf" in field:
        return " or ".join(_kind(choice) for choice in field["anyOf"])
    if "$ref" in field:
        return _name(field)
    if "enum" in field:
        return " or ".join(str(value) for value in field["enum"])
    kind = str(field.get("type", "any"))
    return f"array of {_kind(field['items'])}" if kind == "array" and "items" in field else kind
