"""`python -m workers.supervisor.teardown`: stop an instance's containers, take its things out of the kernel.

Runs inside the virtual environment, with the platform down. What is on disk stays: images, volumes, and the
containers as stopped ones.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

from runtime.cgroups.manager import CgroupManager
from runtime.engine import Engine
from runtime.errors import EngineError
from runtime.store.paths import Config
from workers.supervisor import console

# They only wait: each for a container that may take its ten seconds to heed a signal.
_AT_ONCE = 256


def main() -> int:
    """0 when nothing of the instance is left in the kernel."""
    config = Config.from_env()
    engine = Engine(config)
    active = [seen.id for seen in engine.observe_all() if seen.status.is_active]
    if active:
        console.step(f"Stopping {len(active)} container{'s' if len(active) != 1 else ''}")
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        failures = sum(pool.map(lambda container: _stop(engine, container), active))
    if failures:
        console.complain(f"{failures} containers still run; networks and cgroups are left to them.")
        return 1
    engine.networks.clean()
    CgroupManager(config).remove_root()
    console.say("No container runs; bridges, nft table and cgroups are gone.")
    return 0


def _stop(engine: Engine, container: str) -> bool:
    """Whether it failed; says why."""
    try:
        engine.stop(container)
        engine.cleanup(container)
    except (EngineError, OSError) as error:
        console.complain(f"{container[:12]}: {error}")
        return True
    return False


if __name__ == "__main__":
    sys.exit(main())
