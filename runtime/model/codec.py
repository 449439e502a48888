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
from collections.abc import Callable
from typing import Any, Literal, TypeVar, get_args, get_origin

from runtime.errors import SpecInvalid

T = TypeVar("T")
Reader = Callable[[Any, str], Any]  # a JSON value, and its field's path for errors
_NONE = type(None)


def to_json(value: Any) -> Any:
    """JSON value (dict, list, str, int, float, bool, None) of a dataclass tree."""
    names = _names(typing.cast(Any, type(value)))
    if names is not None:
        return {name: to_json(getattr(value, name)) for name in names}
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
    readers = _readers(typing.cast(Any, cls))
    if not data.keys() <= readers.keys():
        path = _join(field, min(data.keys() - readers.keys()))
        raise SpecInvalid(
            path, f"{path} is not a known field.", hint=f"Known: {', '.join(readers)}."
        )
    values = {k: readers[k](v, _join(field, k)) for k, v in data.items()}
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
def _names(cls: type) -> tuple[str, ...] | None:
    """The fields of a dataclass; None of anything else."""
    return tuple(f.name for f in dataclasses.fields(cls)) if dataclasses.is_dataclass(cls) else None


@functools.cache
def _readers(cls: type) -> dict[str, Reader]:
    """How to read each field of a dataclass. A start reads ten objects with hundreds of fields, so what a type
    asks for is found out once.
    """
    return {name: _reader(hint) for name, hint in typing.get_type_hints(cls).items()}


def _join(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name


def _reader(hint: Any) -> Reader:
    """What makes a value of the type `hint` of a JSON value, or raises SpecInvalid with the field."""
    if hint is Any:
        return lambda value, _field: value
    origin, args = get_origin(hint), get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return functools.partial(
            _union, [_reader(a) for a in args if a is not _NONE], _NONE in args
        )
    if origin is Literal:
        return functools.partial(_choice, args)
    if origin is tuple:
        return functools.partial(_tuple, _reader(args[0]))
    if origin is dict:
        return functools.partial(_dict, _reader(args[1]))
    if dataclasses.is_dataclass(hint):
        return functools.partial(from_json, typing.cast(type, hint))
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return functools.partial(_enum, hint)
    return functools.partial(_scalar, hint)


def _union(options: list[Reader], optional: bool, value: Any, field: str) -> Any:
    if value is None and optional:
        return None
    for option in options[:-1]:
        try:
            return option(value, field)
        except SpecInvalid:
            continue
    return options[-1](value, field)


def _choice(choices: tuple[Any, ...], value: Any, field: str) -> Any:
    if value not in choices:
        raise SpecInvalid(field, f"{field} must be one of: {', '.join(map(str, choices))}.")
    return value


def _tuple(item: Reader, value: Any, field: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise SpecInvalid(field, f"{field} must be a list.")
    return tuple(item(v, f"{field}[{i}]") for i, v in enumerate(value))


def _dict(item: Reader, value: Any, field: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SpecInvalid(field, f"{field} must be an object.")
    return {str(k): item(v, f"{field}.{k}") for k, v in value.items()}


def _enum(cls: type[enum.Enum], value: Any, field: str) -> enum.Enum:
    try:
        return cls(value)
    except ValueError:
        choices = ", ".join(str(m.value) for m in cls)
        raise SpecInvalid(field, f"{field} must be one of: {choices}.") from None


def _scalar(hint: Any, value: Any, field: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    wrong_bool = isinstance(value, bool) and hint is not bool
    if not isinstance(value, hint) or wrong_bool:
        names = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
        raise SpecInvalid(field, f"{field} must be {names.get(hint, hint.__name__)}.")
    return value
