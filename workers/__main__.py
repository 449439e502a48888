"""`python -m workers`: this host's worker."""

from __future__ import annotations

import logging
import os
import sys
import warnings

from celery.concurrency.thread import TaskPool
from celery.exceptions import CPendingDeprecationWarning
from celery.platforms import SecurityWarning

from workers import instance
from workers.app import app
from workers.memory import keep_what_is_loaded

logger = logging.getLogger("workers")


def main() -> int:
    """Run the worker until SIGTERM: it takes no new work, then finishes what it has."""
    # Said at each lost connection: Celery would rather cancel what runs. Ours runs on and may run twice.
    warnings.simplefilter("ignore", CPendingDeprecationWarning)
    # Root is what this worker is for, and JSON what it takes.
    warnings.simplefilter("ignore", SecurityWarning)
    _prepare()
    worker = app.Worker(
        pool_cls=TaskPool,
        loglevel="INFO",
        optimization="fair",
        without_gossip=True,
        without_mingle=True,
        quiet=True,
    )
    keep_what_is_loaded()
    worker.start()
    return int(worker.exitcode or 0)


def _prepare() -> None:
    """Load now what the first task would wait for."""
    from runtime.errors import EngineError  # noqa: PLC0415 - with the rest that needs Django
    from workers.networks import default_network_ready  # noqa: PLC0415 - models need Django

    app.loader.import_default_modules()
    engine = instance.engine()
    engine.sweep()
    try:
        engine.networks.warm_up()
        default_network_ready(engine, instance.host_id())
    except (EngineError, OSError) as error:
        # The first container that needs it says so to somebody who can act.
        logger.warning("The default network is not ready: %s", error)


if __name__ == "__main__":
    if "SLIPWAY_PRELOAD" in os.environ:  # tests of failures
        __import__(os.environ["SLIPWAY_PRELOAD"])
    sys.exit(main())
