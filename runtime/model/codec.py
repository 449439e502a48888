"""Frozen dataclasses to JSON values and back, strictly: an unknown or ill-typed field is a SpecInvalid.

Standard library only, because the launcher imports the model. Supported field types: str, int, float,
bool, unions, enums, Literal, tuple[X, ...], dict[str, X] and nested dataclasses.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
import typing
from typing import Any, Literal, TypeVar, get_args, get_origin

from runtime.errors import SpecInvalid

T = TypeVar("T")


def to_json(value: Any) -> Any:
    """JSON value (dict, list, str, int, float, bool, None) of a dataclass tree."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (tuple, list)):
        return [to_json(v) for v in value]
    if isinstance(value, dict):
        return {k: to_json(v) for k, v in value.items()}
    return value


def from_json(cls: type[T], data: Any, field: str = "") -> T:
    """Build `cls` from a JSON object. Absent fields take their defaults.

    Raises SpecInvalid with the dotted path of the first field that does not fit.
    """
    if not isinstance(data, dict):
        raise SpecInvalid(field or cls.__name__, f"{field or cls.__name__} must be an object.")
    hints = _hints(typing.cast(Any, cls))
    unknown = sorted(set(data) - set(hints))
    if unknown:
        path = _join(field, unknown[0])
        raise SpecInvalid(path, f"{path} is not a known field.", hint=f"Known: {', '.join(hints)}.")
    values = {k: _value(hints[k], v, _join(field, k)) for k, v in data.items()}
    try:
        return cls(**values)
    except TypeError:
        missing = [
            f.name
            for f in dataclasses.fields(cls)  # type: ignore[arg-type]
            if f.name not in values
            and f.default is dataclasses.MISSING
            and f.default_factory is dataclasses.MISSING
        ]
        path = _join(field, missing[0] if missing else "")
        raise SpecInvalid(path, f"{path} is required.") from None


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _join(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name


def _value(hint: Any, value: Any, field: str) -> Any:
    if hint is Any:
        return value
    origin = get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return _union(get_args(hint), value, field)
    if origin is Literal:
        if value not in get_args(hint):
            choices = ", ".join(map(str, get_args(hint)))
            raise SpecInvalid(field, f"{field} must be one of: {choices}.")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise SpecInvalid(field, f"{field} must be a list.")
        item = get_args(hint)[0]
        return tuple(_value(item, v, f"{field}[{i}]") for i, v in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise SpecInvalid(field, f"{field} must be an object.")
        item = get_args(hint)[1]
        return {str(k): _value(item, v, f"{field}.{k}") for k, v in value.items()}
    if dataclasses.is_dataclass(hint):
        return from_json(typing.cast(type, hint), value, field)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        try:
            return hint(value)
        except ValueError:
            choices = ", ".join(str(m.value) for m in hint)
            raise SpecInvalid(field, f"{field} must be one of: {choices}.") from None
    return _scalar(hint, value, field)


def _union(options: tuple[Any, ...], value: Any, field: str) -> Any:
    if value is None and type(None) in options:
        return None
    rest = [o for o in options if o is not type(None)]
    for option in rest[:-1]:
        try:
            return _value(option, value, field)
        except SpecInvalid:
            continue
    return _value(rest[-1], value, field)


def _scalar(hint: Any, value: Any, field: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    wrong_bool = isinstance(value, bool) and hint is not bool
    if not isinstance(value, hint) or wrong_bool:
        names = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
        raise SpecInvalid(field, f"{field} must be {names.get(hint, hint.__name__)}.")
    return value
