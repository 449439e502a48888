"""What the pages are made of: vendored files, icons, styles and scripts, checked without a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

WEBUI = Path(__file__).resolve().parents[2] / "webui"
STATIC = WEBUI / "static"
TEMPLATES = sorted((WEBUI / "templates").rglob("*.html"))
SCRIPTS = sorted((STATIC / "js").rglob("*.js"))


def test_vendored_files_have_the_hashes_of_the_lock() -> None:
    checked = subprocess.run(
        [sys.executable, STATIC / "vendor.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


def test_every_vendored_package_carries_its_licence() -> None:
    assert len(list((STATIC / "vendor" / "licences").glob("*.txt"))) == 7


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_templates_need_no_inline_style_or_script(template: Path) -> None:
    """The content security policy allows neither; a browser would drop them silently."""
    text = template.read_text()
    assert not re.search(r"\sstyle=", text)
    assert not re.search(r"\son[a-z]+=", text)
    assert "<style" not in text
    assert not re.search(r"<script(?![^>]*\bsrc=)", text)
    assert "|safe" not in text


def test_scripts_never_set_html() -> None:
    """Log lines and names come from strangers: text nodes only."""
    for script in SCRIPTS:
        assert not re.search(
            r"innerHTML|outerHTML\s*=|insertAdjacentHTML|document\.write", script.read_text()
        )


def test_every_icon_that_is_named_is_in_the_sprite() -> None:
    known = set(re.findall(r'<symbol id="([^"]+)"', (STATIC / "vendor" / "icons.svg").read_text()))
    named = set()
    for template in TEMPLATES:
        named |= set(re.findall(r'{% icon "([^"]+)"', template.read_text()))
    for script in SCRIPTS:
        named |= set(re.findall(r'\bicon\("([^"]+)"', script.read_text()))
    assert named <= known


def test_templates_and_scripts_point_at_no_other_site() -> None:
    for path in [*TEMPLATES, *SCRIPTS, *(STATIC / "css").glob("*.css")]:
        urls = re.findall(
            r"""(?:href|src|url\(|from|import)[=\s("']+(https?://[^"')\s]+)""", path.read_text()
        )
        assert [url for url in urls if not url.startswith("http://127.0.0.1:{{")] == [], path


def test_scripts_are_well_typed() -> None:
    """JSDoc types, by the TypeScript compiler that `slipway test` installs; nothing needs it to run."""
    installed = Path(sys.prefix) / "typescript" / "node_modules" / ".bin" / "tsc"
    compiler = str(installed) if installed.exists() else shutil.which("tsc")
    if compiler is None:
        pytest.skip("tsc is not installed")
    checked = subprocess.run(
        [compiler, "-p", STATIC / "tsconfig.json"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout
