"""The database tests once more, on PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.postgres import binaries, running_postgres

ROOT = Path(__file__).parent.parent


@pytest.mark.postgres
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    os.geteuid() != 0 or binaries() is None, reason="needs root and Debian's postgresql"
)
@pytest.mark.skipif(
    "SLIPWAY_TEST_DATABASE_URL" in os.environ, reason="this is the run on PostgreSQL"
)
def test_the_database_tests_pass_on_postgresql() -> None:
    with running_postgres() as url:
        done = subprocess.run(
            # Only what uses the database is left when this variable is set: see conftest.py. The
            # server goes with its databases, so none is dropped (threads may still hold connections).
            [sys.executable, "-m", "pytest", "-q", "tests/unit"],
            cwd=ROOT,
            env=os.environ | {"SLIPWAY_TEST_DATABASE_URL": url},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        pytest.fail(done.stdout[-6000:] + done.stderr[-2000:], pytrace=False)
