"""Random work while random processes die: nothing is lost, nothing dies unasked, nothing stays behind.

SLIPWAY_CHAOS_SEED and SLIPWAY_CHAOS_OPS choose another run; what failed is told with its seed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.chaos import Chaos
from tests.support.platform import Platform

SEED = int(os.environ.get("SLIPWAY_CHAOS_SEED", "1"))
OPERATIONS = int(os.environ.get("SLIPWAY_CHAOS_OPS", "90"))
NIGHTS = 8  # seeds of a run with -m nightly


@pytest.fixture
def own() -> Iterator[Platform]:
    """A platform that the test may break."""
    platform = Platform()
    try:
        platform.start(timeout=180)
        yield platform
    finally:
        platform.destroy()


def _survives(platform: Platform, directory: Path, *, seed: int, operations: int) -> None:
    platform.api().post("/images/starter")
    chaos = Chaos(platform, seed=seed, operations=operations)
    wrong = chaos.run()
    journal = directory / f"chaos-{seed}.journal"
    journal.write_text("\n".join([*chaos.journal, "", platform.log]))
    assert chaos.killed > 0
    again = f"SLIPWAY_CHAOS_SEED={seed} SLIPWAY_CHAOS_OPS={operations}"
    assert wrong == [], f"{again}: {chaos.killed} kills, told in {journal}"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [SEED])
def test_random_work_survives_kill_9_of_random_processes(
    own: Platform, tmp_path: Path, seed: int
) -> None:
    _survives(own, tmp_path, seed=seed, operations=OPERATIONS)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(SEED, SEED + NIGHTS))
def test_hundreds_of_operations_survive_it_whatever_the_seed(
    own: Platform, tmp_path: Path, seed: int
) -> None:
    _survives(own, tmp_path, seed=seed, operations=max(OPERATIONS, 400))
