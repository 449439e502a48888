"""The linters are tests: the test command is the one gate."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = Path(sysconfig.get_path("scripts"))


def _run(*command: str, **environment: str) -> None:
    env = {**os.environ, **environment}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{' '.join(command)}\n{done.stdout}{done.stderr}", pytrace=False)


def test_ruff_finds_nothing() -> None:
    _run(str(SCRIPTS / "ruff"), "check", "--no-cache", ".")


def test_code_is_formatted() -> None:
    _run(str(SCRIPTS / "ruff"), "format", "--no-cache", "--check", ".")


@pytest.mark.timeout(600)
def test_mypy_strict_finds_nothing(tmp_path: Path) -> None:
    # Its Django plugin imports tests.settings, and it ends without the hook that removes their directory.
    _run(sys.executable, "-m", "mypy", TMPDIR=str(tmp_path))


def test_imports_keep_to_the_layers() -> None:
    _run(str(SCRIPTS / "lint-imports"))
