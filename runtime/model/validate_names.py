"""The smallest rules: names, host names, paths."""

from __future__ import annotations

import re

from runtime.errors import SpecInvalid
from runtime.model.parse import VOLUME_NAME

ID = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,127}", re.ASCII)
_HOST_LABEL = re.compile(r"[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?", re.ASCII)


def validate_name(name: str, field: str = "name") -> None:
    """A container's or network's name: what Docker takes, from 2 to 128 characters."""
    if not _NAME.fullmatch(name):
        raise SpecInvalid(
            field,
            f"{field}: {name!r} is not a valid name.",
            hint="Use 2 to 128 letters, digits, dots, dashes and underscores, "
            "starting with a letter or digit.",
        )


def validate_volume_name(name: str, field: str = "name") -> None:
    if not VOLUME_NAME.fullmatch(name):
        raise SpecInvalid(
            field,
            f"{field}: {name!r} is not a valid name for a volume.",
            hint="Use letters, digits, dots, dashes and underscores, starting with a letter or digit.",
        )


def validate_hostname(name: str, field: str) -> None:
    if not name:
        return
    if len(name) > 64 or not all(_HOST_LABEL.fullmatch(part) for part in name.split(".")):
        raise SpecInvalid(
            field,
            f"{field}: {name!r} is not a valid host name.",
            hint="Use up to 64 letters, digits, dashes and dots.",
        )


def validate_no_nul(value: str, field: str) -> None:
    if "\0" in value:
        raise SpecInvalid(field, f"{field} must not hold a NUL character.")


def validate_absolute(path: str, field: str) -> None:
    validate_no_nul(path, field)
    if not path.startswith("/"):
        raise SpecInvalid(
            field, f"{field}: {path!r} is not an absolute path.", hint="Start with /."
        )
    if ".." in path.split("/"):
        raise SpecInvalid(field, f"{field}: {path!r} must not contain '..'.")
