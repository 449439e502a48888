"""Answers of the REST API against its OpenAPI document."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from referencing import Registry
from referencing.jsonschema import DRAFT202012

Schema = dict[str, Any]
_DOCUMENT = "urn:openapi"


class Answers:
    """Holds answers to the schemas of `document`, more strictly than it asks for: nothing may come that it does not name."""

    def __init__(self, document: Schema) -> None:
        self._document = copy.deepcopy(document)
        for model in self._document["components"]["schemas"].values():
            _close(model)
        resource = DRAFT202012.create_resource(self._document)
        self._registry: Any = Registry().with_resource(_DOCUMENT, resource)
        paths = sorted(self._document["paths"], key=lambda path: path.count("{"))
        # A name of an image holds slashes.
        self._paths: list[tuple[re.Pattern[str], str]] = [
            (re.compile(re.sub(r"\\\{\w+\\\}", part, re.escape(path))), path)
            for part in ("[^/]+", ".+")
            for path in paths
        ]
        self._validators: dict[str, Draft202012Validator] = {}

    def check(self, method: str, path: str, status: int, body: Any) -> None:
        """Raise AssertionError with the place in the body unless it is what the document says of this answer.

        `path` may have a query. One that the document does not know must be an error.
        """
        found = self._operation(method.lower(), path.partition("?")[0])
        if found is None:
            assert status >= 400, f"{method} {path} is not in the document"
            return
        known = self._document["paths"][found][method.lower()]["responses"]
        key = str(status) if status < 400 else "default"
        assert key in known, (
            f"{method} {found} answers {status}, of which the document does not know"
        )
        if "application/json" not in known[key].get("content", {}):
            return
        place = ("paths", found, method.lower(), "responses", key, "content", "application/json")
        error = best_match(self._validator((*place, "schema")).iter_errors(body))
        assert error is None, (
            f"{method} {found} {status} at {error.json_path}: {error.message[:500]}\n"
            f"{json.dumps(error.schema)[:500]}"
        )

    def _operation(self, method: str, path: str) -> str | None:
        for pattern, known in self._paths:
            if pattern.fullmatch(path) and method in self._document["paths"][known]:
                return known
        return None

    def _validator(self, place: tuple[str, ...]) -> Draft202012Validator:
        pointer = "/".join(part.replace("~", "~0").replace("/", "~1") for part in place)
        pointer = pointer.replace("{", "%7B").replace("}", "%7D")
        if pointer not in self._validators:
            schema = {"$ref": f"{_DOCUMENT}#/{pointer}"}
            self._validators[pointer] = Draft202012Validator(schema, registry=self._registry)
        return self._validators[pointer]


def _close(model: Any) -> None:
    """Allow no property that the schema does not name."""
    if isinstance(model, list):
        for each in model:
            _close(each)
    elif isinstance(model, dict):
        if "properties" in model:
            model.setdefault("additionalProperties", False)
        for each in model.values():
            _close(each)
