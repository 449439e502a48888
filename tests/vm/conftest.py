"""One instance for all tests of a file: under emulation to make one takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import Instance

SCRATCH = Path("/dev/vdd")  # a disk of the virtual machine with nothing on it


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    with Instance() as made:
        yield made


@pytest.fixture
def scratch() -> Iterator[str]:
    """The path of a whole disk; it has its scheduler back afterwards."""
    scheduler = Path(f"/sys/block/{SCRATCH.name}/queue/scheduler")
    before = scheduler.read_text().partition("[")[2].partition("]")[0]
    yield str(SCRATCH)
    scheduler.write_text(before)
