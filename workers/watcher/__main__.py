"""`python -m workers.watcher`: the watcher of this host, until SIGTERM."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from contextlib import suppress

import django

from workers.memory import keep_what_is_loaded


async def run() -> None:
    from workers.watcher.build import build  # noqa: PLC0415 - imports models

    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        watcher = build()
        keep_what_is_loaded()
        await watcher.run()


def allow_many_files() -> None:
    """A dozen files of each container are kept open for its samples, and logs that somebody follows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    if "SLIPWAY_PRELOAD" in os.environ:  # tests of failures
        __import__(os.environ["SLIPWAY_PRELOAD"])
    allow_many_files()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "workers.settings")
    django.setup()
    asyncio.run(run())
