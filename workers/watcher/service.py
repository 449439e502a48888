"""The watcher: an asyncio process that turns facts into rows, events, samples and operations.

Everything that blocks runs in one of four threads: `state` (the replica, one change after the other),
`operations` (the sweep and the host's heartbeat), `stats` (samples) and `facts` (the advisor's, which may
walk a disk). The loop only waits and passes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from django.db import close_old_connections

from runtime.errors import EngineError
from runtime.store.paths import Config
from workers.watcher.events import EventSocket
from workers.watcher.facts import INTERVAL as FACTS_INTERVAL
from workers.watcher.facts import Facts
from workers.watcher.history import History
from workers.watcher.kernel_log import KernelLog, OomKill
from workers.watcher.oom import OomKills, pid_in_container
from workers.watcher.pressure import Pressure
from workers.watcher.reconcile import Reconciler
from workers.watcher.stats import Sampler
from workers.watcher.stream_server import StreamServer
from workers.watcher.sweep import Sweep
from workers.watcher.throttling import Throttling
from workers.watcher.volumes import VolumeSizes

if TYPE_CHECKING:
    from runtime.engine import Engine

logger = logging.getLogger(__name__)

RECONCILE_INTERVAL = 2.0  # seconds
HEARTBEAT_INTERVAL = 10.0
ASKED_FOR = (
    "started",
    "stopped",
)  # events that a task has brought about, most often, and writes itself
ASKED_PAUSE = 0.2  # seconds before the look at what a task is about to write
RESTART_PAUSE = 1.0  # after a part of the watcher failed


class Watcher:
    """Runs every part until cancelled; a part that fails is logged and begun again."""

    def __init__(
        self,
        *,
        config: Config,
        engine: Engine,
        reconciler: Reconciler,
        sweep: Sweep,
        facts: Facts,
        volumes: VolumeSizes,
        kills: OomKills,
        throttling: Throttling,
        pressure: Pressure,
        history: History,
        heartbeat: Callable[[], None],
    ) -> None:
        self._config = config
        self._engine = engine
        self._reconciler = reconciler
        self._sweep = sweep
        self._facts = facts
        self._volumes = volumes
        self._kills = kills
        self._throttling = throttling
        self._pressure = pressure
        self._history = history
        self._heartbeat = heartbeat
        self._threads = {
            name: ThreadPoolExecutor(1, thread_name_prefix=name)
            for name in ("state", "operations", "stats", "facts")
        }
        reconciler.on_end(self._on_end)
        self._looking: set[str] = set()  # containers whose look is queued already
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until cancelled."""
        self._config.run.mkdir(parents=True, exist_ok=True)
        events = EventSocket(self._config.events_socket, self._on_event)
        server = StreamServer(
            path=self._config.stream_socket,
            sampler=Sampler(
                self._engine,
                earlier=self._history.last,
                earlier_of_host=self._history.last_of_host,
            ),
            history=self._history,
            executor=self._threads["stats"],
            running=self._reconciler.active,
            logs_dir=self._engine.logs_dir,
            run_dir=self._config.container_run,
            ended=self._engine.has_ended,
            begin_exec=self._engine.exec,
            attaching=self._engine,
            top=self._engine.top,
            files=self._engine,
            images=self._engine.saving,
        )
        kernel_log = KernelLog(self._config.cgroup, self._on_oom_kill)
        await events.open()
        self._kills.log_readable = kernel_log.open()
        try:
            async with asyncio.TaskGroup() as group:
                for part in (
                    self._reconcile_for_ever,
                    self._sweep_for_ever,
                    self._beat_for_ever,
                    self._facts_for_ever,
                    server.serve,
                ):
                    group.create_task(self._keep(part))
        finally:
            events.close()
            kernel_log.close()
            for executor in self._threads.values():
                executor.shutdown(wait=False, cancel_futures=True)

    async def _keep(self, part: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await part()
            except Exception:
                logger.exception("A part of the watcher failed; it begins again.")
            await asyncio.sleep(RESTART_PAUSE)

    async def _in(self, thread: str, function: Callable[..., Any], *args: Any) -> Any:
        def call() -> Any:
            close_old_connections()
            return function(*args)

        return await asyncio.get_running_loop().run_in_executor(self._threads[thread], call)

    # -- containers ---------------------------------------------------------------------------

    def _on_event(self, container_id: str, event: str) -> None:
        logger.debug("%s: %s", container_id[:12], event)
        if event in ASKED_FOR:
            # Leave the task the processor, the database and the container's lock.
            asyncio.get_running_loop().call_later(ASKED_PAUSE, self._notice, container_id)
        else:
            self._notice(container_id)

    def _notice(self, container_id: str) -> None:
        if container_id in self._looking:
            return
        self._looking.add(container_id)
        task = asyncio.create_task(self._look(container_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look(self, container_id: str) -> None:
        def look() -> None:
            # From here on another event is news again.
            self._looking.discard(container_id)
            self._reconciler.look(container_id)

        try:
            await self._in("state", look)
        except Exception:
            logger.exception("Looking at container %s failed.", container_id[:12])
            self._looking.discard(container_id)

    def _on_end(self, container_id: str) -> None:
        with suppress(RuntimeError):  # the watcher is ending
            self._threads["facts"].submit(self._measure_left, container_id)

    def _measure_left(self, container_id: str) -> None:
        try:
            close_old_connections()
            self._facts.ended(container_id)
            self._volumes.ended(container_id)
        except Exception:
            logger.exception("What container %s has left is not measured.", container_id[:12])

    def _on_oom_kill(self, kill: OomKill) -> None:
        # At once, for the process is about to go.
        pid = pid_in_container(kill)
        task = asyncio.create_task(self._in("operations", self._kills.from_log, kill, pid))
        self._tasks.add(task)
        task.add_done_callback(self._oom_kill_told)

    def _oom_kill_told(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("An OOM kill could not be recorded.", exc_info=error)

    async def _reconcile_for_ever(self) -> None:
        while True:
            await self._in("state", self._reconciler.round)
            await asyncio.sleep(RECONCILE_INTERVAL)

    # -- operations, host, facts --------------------------------------------------------------

    async def _sweep_for_ever(self) -> None:
        while True:
            await self._in("operations", self._sweep.round)
            await asyncio.sleep(RECONCILE_INTERVAL)

    async def _beat_for_ever(self) -> None:
        while True:
            await self._in("operations", self._heartbeat)
            await asyncio.sleep(HEARTBEAT_INTERVAL)

    async def _facts_for_ever(self) -> None:
        while True:
            await asyncio.sleep(FACTS_INTERVAL)
            active = self._reconciler.active()
            await self._in("facts", self._facts.round, active)
            await self._in("facts", self._look_at_host)
            await self._in("facts", self._volumes.round, active)
            self._history.forget()
            self._kills.forget(active)
            self._throttling.forget(active)
            self._pressure.forget(active)

    def _look_at_host(self) -> None:
        try:
            self._history.look_at_host(self._engine.host_sample())
        except (EngineError, OSError) as error:
            logger.debug("No reading of the host: %s", error)
