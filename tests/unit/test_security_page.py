"""docs/security.md names what is there: tests, code, and every escape that the tests know."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "security.md"
TEXT = PAGE.read_text()
ESCAPES = sorted((ROOT / "tests/kernel/escape").glob("test_*.py"))
# Not in tests/kernel/escape, but of the same kind.
OTHERS = [ROOT / "tests/kernel/test_files.py", ROOT / "runtime/shim/copying.py"]
_CVE = re.compile(r"CVE-\d{4}-\d{4,}")


def escapes_of(path: Path) -> set[str]:
    return set(_CVE.findall(ast.get_docstring(ast.parse(path.read_text())) or ""))


def test_every_link_leads_to_a_file() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", TEXT)
    missing = [link for link in links if not (PAGE.parent / link).exists()]
    assert links
    assert missing == []


def test_every_file_it_names_exists() -> None:
    named = re.findall(r"`((?:runtime|workers|webui|tests)/[\w./]+)`", TEXT)
    assert len(named) > 20
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("name", re.findall(r"`(\w+)` in `(?:[\w/]+\.py)`", TEXT))
def test_every_function_it_names_is_where_it_says(name: str) -> None:
    [path] = set(re.findall(rf"`{name}` in `([\w/]+\.py)`", TEXT))
    assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", ESCAPES, ids=lambda path: path.stem)
def test_every_file_of_escapes_is_named(path: Path) -> None:
    assert f"](../{path.relative_to(ROOT)})" in TEXT


@pytest.mark.parametrize("path", [*ESCAPES, *OTHERS], ids=lambda path: path.stem)
def test_every_escape_that_the_tests_know_is_in_the_table(path: Path) -> None:
    row = "\n".join(line for line in TEXT.splitlines() if line.startswith("|"))
    assert escapes_of(path) - set(_CVE.findall(row)) == set()


def test_it_claims_no_escape_that_no_test_knows() -> None:
    known = set().union(*(escapes_of(path) for path in [*ESCAPES, *OTHERS]))
    assert set(_CVE.findall(TEXT)) - known == set()
