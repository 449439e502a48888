"""A host's facts in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import template

from webui.core.templatetags.ui import size

register = template.Library()


@register.filter
def facts(mapping: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Label and text of each fact; those that have a part of the page of their own are left out."""
    found = []
    for key, value in (mapping or {}).items():
        if key != "network":
            label, word = FACTS.get(key, (key.replace("_", " ").capitalize(), _word))
            found.append((label, word(value)))
    return found


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_word, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_word(each)}" for name, each in value.items()) or "none"
    return str(value) if value not in (None, "") else "–"


def _cgroup(value: Any) -> str:
    if not isinstance(value, dict):
        return _word(value)
    version = str(value.get("version", "")).removeprefix("v")
    swap = "can" if value.get("swap_limit") else "cannot"
    return (
        f"version {version} with {_word(value.get('controllers', ()))}; "
        f"memory and swap together {swap} be limited"
    )


def _userns(value: Any) -> str:
    if not isinstance(value, dict):
        return _word(value)
    if not value.get("available"):
        return f"no: {value.get('reason') or 'unknown why'}"
    first, count = value.get("first_id", 0), value.get("ids", 0)
    return f"yes, with the ids {first} to {first + count - 1}"


# Fact → its label, and how it is said.
FACTS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "cores": ("CPU cores", _word),
    "memory_total": ("Memory", size),
    "swap_total": ("Swap", size),
    "boot_id": ("Boot", _word),
    "root": ("Data", _word),
    "cgroup": ("Control groups", _cgroup),
    "seccomp": ("System call filter", _word),
    "apparmor": ("AppArmor", _word),
    "overlay": ("Overlay file system", _word),
    "user_namespaces": ("User namespaces", _userns),
}
