"""Fixtures that every kind of test shares."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.store.paths import Config

_BY_DIRECTORY = {"kernel": ["kernel"], "e2e": ["e2e"]}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test's directory says what it needs; who cannot give that skips it, with the reason."""
    here = Path(__file__).parent
    for item in items:
        try:
            directory = item.path.relative_to(here).parts[0]
        except ValueError:
            continue
        for marker in _BY_DIRECTORY.get(directory, ()):
            item.add_marker(marker)
        if directory in _BY_DIRECTORY and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture
def config() -> Iterator[Config]:
    """An instance of its own: root and run are short, fresh directories, the name is random.

    Short, because the path of a unix socket has at most 107 bytes.
    """
    base = Path(tempfile.mkdtemp(prefix="slw-", dir="/tmp"))
    made = Config(root=base / "root", run=base / "run", name=f"test-{secrets.token_hex(4)}")
    made.root.mkdir()
    made.run.mkdir()
    yield made
    shutil.rmtree(base, ignore_errors=True)
