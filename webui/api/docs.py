"""The API's documentation page, made of its own OpenAPI document: no script, nothing from elsewhere."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from ninja import NinjaAPI
from ninja.openapi.docs import DocsBase


class Page(DocsBase):
    def render_page(self, request: HttpRequest, api: NinjaAPI, **_: Any) -> HttpResponse:
        schema = api.get_openapi_schema()
        groups: dict[str, list[dict[str, Any]]] = {}
        for path, methods in schema["paths"].items():
            for method, operation in methods.items():
                tag = (operation.get("tags") or ["other"])[0]
                groups.setdefault(tag, []).append(_endpoint(path, method, operation))
        return render(request, "pages/api_docs.html", {"groups": groups, "schema": schema})


def _endpoint(path: str, method: str, operation: dict[str, Any]) -> dict[str, Any]:
    """{method, path, text, parameters: [{name, place, required, kind}]} of one operation."""
    return {
        "method": method.upper(),
        "path": path,
        "text": operation.get("description") or operation.get("summary", ""),
        "parameters": [
            {
                "name": p["name"],
                "place": p["in"],
                "required": p.get("required", False),
                "kind": p.get("schema", {}).get("type", ""),
            }
            for p in operation.get("parameters", [])
        ],
        "body": ", ".join(operation.get("requestBody", {}).get("content", {})),
    }
