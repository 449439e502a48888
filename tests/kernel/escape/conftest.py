"""One instance for a file of attacks; each attacks containers of its own making."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.engine import Instance
from tests.support.escape import KINDS, Kind, box
from tests.support.options import Seen


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    with Instance() as made:
        yield made


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: f"userns={kind or 'default'}")
def userns(request: pytest.FixtureRequest) -> Kind:
    """What `docker run --userns` says: every attack is tried with and without a user namespace."""
    kind: Kind = request.param
    return kind


@pytest.fixture(scope="module")
def seen(instance: Instance, userns: Kind) -> Seen:
    """A container with every default, for attacks that leave it as it was."""
    return box(instance, userns=userns)
