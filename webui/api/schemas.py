"""What requests that succeed answer, for the OpenAPI document: read off the views' return types, which mypy checks.

    -> list[EventRow]                  what is answered, as it is
    -> Answer[ContainerRow]            that, or with 202 an operation (`webui.api.answers`)
    -> Status[TokenRow]                with the one number that the route has
    -> ExecResult | Status[ExecBegun]  the first, or the second with 202
    -> Annotated[Any, StatsData]       JSON of another process, made of such an object

Nothing of this is looked at when a request is answered. What says `Any` stays so in the document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from ninja import Status
from pydantic import TypeAdapter

from webui.api.answers import Answer
from webui.core.rows import OperationRow

Schema = dict[str, Any]
View = Callable[..., Any]
_WHERE = "#/components/schemas/{model}"


def add_answers(schema: Schema, views: dict[str, View]) -> None:
    """Write what each operation answers into the document; `views` are by the operations' ids."""
    places = []
    for methods in schema["paths"].values():
        for operation in methods.values():
            answers = operation["responses"]
            for status, kind in _answers(views[operation["operationId"]], list(answers)):
                places.append((kind, answers[status]))
    kinds = {repr(kind): kind for kind, _ in places}
    adapters = [(name, "serialization", TypeAdapter(kind)) for name, kind in kinds.items()]
    found, shared = TypeAdapter.json_schemas(adapters, ref_template=_WHERE)  # type: ignore[arg-type]
    components = schema["components"]["schemas"]
    for name, model in shared.get("$defs", {}).items():
        if components.setdefault(name, model) != model:
            raise ValueError(f"{name} is the name of two schemas.")
    for kind, answer in places:
        answer["content"] = {"application/json": {"schema": found[repr(kind), "serialization"]}}


def _answers(view: View, statuses: list[int]) -> Iterator[tuple[int, Any]]:
    """(status, type) of each answer that has one."""
    kind = get_type_hints(view, include_extras=True).get("return", Any)
    later = None  # with 202
    if get_origin(kind) is Answer:
        [kind], later = get_args(kind), OperationRow
    elif get_origin(kind) is Status:
        [kind] = get_args(kind)
    elif get_origin(kind) is Annotated:
        kind = get_args(kind)[1]
    elif len(get_args(kind)) == 2 and get_origin(get_args(kind)[1]) is Status:
        kind, [later] = get_args(kind)[0], get_args(get_args(kind)[1])
    for status in statuses:
        chosen = later if status == 202 and later is not None else kind
        if status != 204 and _says_something(chosen):
            yield status, chosen


def _says_something(kind: Any) -> bool:
    """Not for Any, lists of it, and what is sent as a stream."""
    return kind is not None and Any not in (kind, *get_args(kind))
