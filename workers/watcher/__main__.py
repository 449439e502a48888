"""`python -m workers.watcher`: the watcher of this host, until SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress

import django


async def run() -> None:
    from workers.watcher.build import build  # noqa: PLC0415 - imports models

    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await build().run()


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webui.settings")
    django.setup()
    asyncio.run(run())
