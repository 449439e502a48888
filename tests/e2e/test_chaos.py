"""Random work while processes die and calls fail: nothing is lost, nothing dies unasked, nothing stays behind.

SLIPWAY_CHAOS_SEED and SLIPWAY_CHAOS_OPS choose another run, SLIPWAY_CHAOS_RATE how many calls fail; what failed
is told with its seed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.chaos import PROCESSES, Chaos, Faults
from tests.support.platform import Platform

SEED = int(os.environ.get("SLIPWAY_CHAOS_SEED", "1"))
OPERATIONS = int(os.environ.get("SLIPWAY_CHAOS_OPS", "90"))
NIGHTS = 8  # seeds of a run with -m nightly
LONG = 400  # operations of each
ERRORS = {"ENOSPC", "EIO", "EBUSY", "EINTR", "ENOMEM"}
RATE = float(os.environ.get("SLIPWAY_CHAOS_RATE", "0.003"))  # of the runtime's calls that fail


@pytest.fixture
def own() -> Iterator[Platform]:
    """A platform that the test may break; it starts it itself."""
    platform = Platform()
    try:
        yield platform
    finally:
        platform.destroy()


def _survives(
    platform: Platform, directory: Path, *, seed: int, operations: int, kills: bool, faults: bool
) -> None:
    failing = Faults(platform, seed=seed, rate=RATE) if faults else None
    platform.start(timeout=180)
    platform.api().post("/images/starter")
    many = operations >= LONG
    chaos = Chaos(
        platform,
        seed=seed,
        operations=operations,
        actors=8 if many else 6,
        slots=6 if many else 4,
        faults=failing,
        kills=kills,
    )
    wrong = chaos.run()
    journal = directory / f"chaos-{seed}.journal"
    journal.write_text(
        "\n".join(
            [*wrong, "", *chaos.journal, "", *(failing.log if failing else ()), "", platform.log]
        )
    )
    assert set(chaos.killed) == (set(PROCESSES) if kills else set())
    if failing is not None:
        seen = {line.split()[3] for line in failing.log}
        assert seen >= ERRORS if many else seen
    again = f"SLIPWAY_CHAOS_SEED={seed} SLIPWAY_CHAOS_OPS={operations}"
    assert wrong == [], f"{again}: {chaos.killed.total()} kills, told in {journal}"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [SEED])
def test_random_work_survives_kill_9_of_random_processes(
    own: Platform, tmp_path: Path, seed: int
) -> None:
    _survives(own, tmp_path, seed=seed, operations=OPERATIONS, kills=True, faults=False)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [SEED])
def test_random_work_survives_random_failures_of_calls(
    own: Platform, tmp_path: Path, seed: int
) -> None:
    _survives(own, tmp_path, seed=seed, operations=OPERATIONS, kills=False, faults=True)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("faults", [False, True], ids=["sound", "faults"])
@pytest.mark.parametrize("kills", [False, True], ids=["calm", "kills"])
@pytest.mark.parametrize("seed", range(SEED, SEED + NIGHTS))
def test_hundreds_of_operations_survive_it_whatever_the_seed(
    own: Platform, tmp_path: Path, seed: int, kills: bool, faults: bool
) -> None:
    operations = max(OPERATIONS, LONG)
    _survives(own, tmp_path, seed=seed, operations=operations, kills=kills, faults=faults)
