"""Puts the watcher of this instance together."""

from __future__ import annotations

from typing import Any

from runtime.kernel import procfs
from runtime.model.stats import StatsSample
from webui.containers.replica import container_usage
from webui.core import broker
from webui.volumes.services import volume_measured, volumes_mounted
from workers import instance
from workers.watcher.facts import Facts
from workers.watcher.history import History
from workers.watcher.host import HostFacts
from workers.watcher.oom import OomKills, oom_record
from workers.watcher.policy import Policy
from workers.watcher.pressure import Pressure
from workers.watcher.reconcile import Reconciler
from workers.watcher.service import Watcher
from workers.watcher.sweep import Sweep
from workers.watcher.throttling import Throttling, throttling_record
from workers.watcher.volumes import VolumeSizes


def build() -> Watcher:
    """The watcher of this instance, from the environment."""
    engine = instance.engine()
    engine.sweep()
    host_id = instance.host_id()
    kills, throttling = OomKills(oom_record), Throttling(throttling_record)
    pressure, history = Pressure(throttling_record), History()

    def looked(container_id: str, sample: StatsSample) -> None:
        throttling.look(container_id, sample)
        pressure.look(container_id, sample)
        history.look(container_id, sample)

    return Watcher(
        config=instance.config(),
        engine=engine,
        reconciler=Reconciler(
            engine=engine, host_id=host_id, policy=Policy(host_id=host_id, boot_id=procfs.boot_id())
        ),
        sweep=Sweep(host_id=host_id, send=send),
        facts=Facts(engine, write=write_usage, counted=kills.from_counter, looked=looked),
        volumes=VolumeSizes(
            engine.volumes,
            mounted=lambda ids: volumes_mounted(host_id=host_id, containers=ids),
            write=lambda name, size: volume_measured(host_id=host_id, name=name, size=size),
        ),
        kills=kills,
        throttling=throttling,
        pressure=pressure,
        history=history,
        heartbeat=HostFacts(engine=engine, host_id=host_id).beat,
    )


def write_usage(container_id: str, usage: dict[str, Any]) -> None:
    container_usage(container_id=container_id, usage=usage)


def send(kind: str, operation_id: str) -> None:
    """Put an operation into this host's queue. Raises RedisError or OSError, soon, when Redis is away."""
    broker.put(instance.host_id(), kind, operation_id)
