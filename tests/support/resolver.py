"""The instance's resolver, as its platform would run it, and what a container is told by it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.engine import CHECKOUT, Instance
from tests.support.options import Seen
from tests.support.waiting import PATIENCE


@contextmanager
def resolver(instance: Instance) -> Iterator[None]:
    environment = {
        **os.environ, "SLIPWAY_ROOT": str(instance.config.root),
        "SLIPWAY_RUN": str(instance.config.run), "SLIPWAY_NAME": instance.config.name,
    }  # fmt: skip
    # It becomes nobody, to whom the fixture's directory is closed.
    for directory in (instance.config.run.parent, instance.config.run):
        directory.chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, "-m", "runtime.network.resolver"], cwd=CHECKOUT, env=environment
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10 * PATIENCE)


def lookup(seen: Seen, name: str) -> str:
    """What `nslookup` says of the name inside; "" when it finds nothing."""
    try:
        return seen.run("nslookup", name)
    except AssertionError:
        return ""
