"""A host's facts in the words of its page."""

from __future__ import annotations

from typing import Any

import pytest

from webui.hosts.templatetags.hosts import facts


@pytest.mark.parametrize(
    ("key", "value", "label", "said"),
    [
        ("memory_total", 16 * 1024**3, "Memory", "16 GiB"),
        ("missing_capabilities", [], "Missing capabilities", "none"),
        (
            "cgroup",
            {"version": "v1", "controllers": ["cpu", "memory"], "swap_limit": False},
            "Control groups",
            "version 1 with cpu, memory; memory and swap together cannot be limited",
        ),
        (
            "user_namespaces",
            {"available": True, "reason": "", "first_id": 1000, "ids": 100},
            "User namespaces",
            "yes, with the ids 1000 to 1099",
        ),
        (
            "user_namespaces",
            {"available": False, "reason": "they are off", "first_id": 0, "ids": 0},
            "User namespaces",
            "no: they are off",
        ),
        ("apparmor", False, "AppArmor", "no"),
    ],
)
def test_each_fact_has_a_label_and_a_sentence(key: str, value: Any, label: str, said: str) -> None:
    assert facts({key: value, "network": {}}) == [(label, said)]
