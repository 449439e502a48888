"""Puts the watcher of this instance together."""

from __future__ import annotations

from typing import Any

from runtime.kernel import procfs
from webui.containers.services import container_usage
from workers import instance
from workers.app import app
from workers.watcher.facts import Facts
from workers.watcher.host import HostFacts
from workers.watcher.oom import OomKills, oom_record
from workers.watcher.policy import Policy
from workers.watcher.reconcile import Reconciler
from workers.watcher.service import Watcher
from workers.watcher.sweep import Sweep
from workers.watcher.throttling import Throttling, throttling_record


def build() -> Watcher:
    """The watcher of this instance, from the environment."""
    engine = instance.engine()
    engine.sweep()
    host_id = instance.host_id()
    kills, throttling = OomKills(oom_record), Throttling(throttling_record)
    return Watcher(
        config=instance.config(),
        engine=engine,
        reconciler=Reconciler(
            engine=engine, host_id=host_id, policy=Policy(host_id=host_id, boot_id=procfs.boot_id())
        ),
        sweep=Sweep(host_id=host_id, send=send),
        facts=Facts(engine, write=write_usage, counted=kills.from_counter, looked=throttling.look),
        kills=kills,
        throttling=throttling,
        heartbeat=HostFacts(engine=engine, host_id=host_id).beat,
    )


def write_usage(container_id: str, usage: dict[str, Any]) -> None:
    container_usage(container_id=container_id, usage=usage)


def send(kind: str, operation_id: str) -> None:
    """Put an operation into this host's queue. Raises what kombu raises, soon, when Redis is away."""
    app.send_task(kind, args=[operation_id], queue=f"host.{instance.host_id()}", retry=False)
