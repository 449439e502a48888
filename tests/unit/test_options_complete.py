"""REST, the form and the documentation know the same options."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel

from webui.containers.fields import SECTIONS
from webui.containers.requests import ContainerRequest, HealthRequest, LimitsRequest, LogsRequest

ROOT = Path(__file__).resolve().parents[2]
# Fields of the form that have a place of their own in it, or come as rows.
BY_HAND = {
    "image", "name", "command", "entrypoint", "working_dir", "user", "ports", "mounts", "env",
    "network", "networks", "restart", "start", "limits.memory", "limits.cpus", "limits.pids",
}  # fmt: skip
# Other words for something that the form has.
SYNONYMS = {"volumes", "label_file"}


def rest() -> set[str]:
    parts: dict[str, type[BaseModel]] = {
        "limits": LimitsRequest,
        "logs": LogsRequest,
        "health": HealthRequest,
    }
    names = set(ContainerRequest.model_fields) - set(parts)
    return names | {f"{part}.{n}" for part, model in parts.items() for n in model.model_fields}


def form() -> list[str]:
    return [f.name for sections in SECTIONS.values() for each in sections for f in each.fields]


def test_the_form_offers_everything_that_rest_takes() -> None:
    assert set(form()) | BY_HAND | SYNONYMS >= rest()
    assert set(form()) <= rest()
    assert len(form()) == len(set(form()))


def test_every_section_of_the_form_says_what_it_is_for() -> None:
    for sections in SECTIONS.values():
        for section in sections:
            assert section.title
            assert 10 < len(section.help) < 75


def test_the_documentation_names_every_field_section_and_test() -> None:
    text = (ROOT / "docs/options.md").read_text()
    words = set(re.findall(r"[a-z_0-9]+", text))
    for name in rest() - {"image", "start"}:
        assert name.rpartition(".")[2] in words, name
    for sections in SECTIONS.values():
        for section in sections:
            assert section.title in text
    for test in set(re.findall(r"`(test_\w+)`", text)):
        assert list((ROOT / "tests").rglob(f"{test}.py")), test
