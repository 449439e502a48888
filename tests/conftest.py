"""Fixtures that every kind of test shares."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.store.paths import Config
from tests.support.naming import instance_name
from tests.support.vm.protocol import inside

# A test's directory says what it needs.
_MARKER_OF_DIRECTORY = {"kernel": "kernel", "vm": "vm", "e2e": "e2e"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--vm",
        action="store_true",
        help="run the kernel tests, and no others, in a virtual machine with unified cgroup v2",
    )
    parser.addoption(
        "--with-vm",
        action="store_true",
        help="run tests/vm in that machine, beside everything else",
    )


def pytest_configure(config: pytest.Config) -> None:
    if not inside():
        # Late, as the guest has neither use for it nor time to load it.
        from tests.support.vm.plugin import GuestTests

        config.pluginmanager.register(GuestTests(config))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        marker = _MARKER_OF_DIRECTORY.get(item.path.relative_to(here).parts[0])
        if marker:
            item.add_marker(marker)
            # Who cannot give what is needed skips it, with the reason.
            if os.geteuid() != 0:
                item.add_marker(pytest.mark.skip(reason="needs root"))
        if inside() and item.get_closest_marker("native"):
            item.add_marker(pytest.mark.skip(reason="measures speed, and this is an emulation"))
    if "nightly" not in str(config.getoption("markexpr")):
        _keep(config, items, [i for i in items if not i.get_closest_marker("nightly")])
    if "SLIPWAY_TEST_DATABASE_URL" in os.environ:
        _keep(config, items, [item for item in items if _uses_database(item)])


def _keep(config: pytest.Config, items: list[pytest.Item], kept: list[pytest.Item]) -> None:
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def _uses_database(item: pytest.Item) -> bool:
    if item.get_closest_marker("django_db"):
        return True
    names = getattr(item, "fixturenames", ())
    return bool({"db", "transactional_db"} & set(names))


@pytest.fixture
def config() -> Iterator[Config]:
    """An instance of its own: root and run are short, fresh directories, the name is random.

    Short, because the path of a unix socket has at most 107 bytes.
    """
    base = Path(tempfile.mkdtemp(prefix="slw-", dir="/tmp"))
    made = Config(root=base / "root", run=base / "run", name=instance_name())
    made.root.mkdir()
    made.run.mkdir()
    yield made
    shutil.rmtree(base, ignore_errors=True)
