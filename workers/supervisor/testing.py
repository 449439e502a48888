"""`slipway test`: everything the tests need, then pytest; its summary is the last line."""

from __future__ import annotations

import os
import shutil
import subprocess

from workers.supervisor import environment, packages, prepare, typescript
from workers.supervisor.instance import CHECKOUT, Instance


def test(instance: Instance, arguments: list[str]) -> int:
    """pytest's exit code."""
    if shutil.which("apt-get"):
        emulator = packages.VM if {"--vm", "--with-vm"} & set(arguments) else ()
        packages.ensure((*packages.RUN, *packages.TEST, *emulator))
    environment.ensure(instance, environment.DEV_LOCK)
    typescript.ensure(instance)
    prepare.users()
    # The tests start instances of their own; what points at the host's must not reach them.
    env = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("SLIPWAY_", "PYTHON")) or k.startswith("SLIPWAY_TEST_")
    }
    for name in ("DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE"):
        env.pop(name, None)
    command = [str(instance.python), "-m", "pytest", *arguments]
    return subprocess.run(command, cwd=CHECKOUT, env=env, check=False).returncode
