"""Where the time of a start goes, stage by stage: `slipway trace run`."""

from __future__ import annotations

from datetime import datetime, timedelta
from statistics import median, quantiles
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from runtime.errors import EngineError
from webui.containers.requests import ContainerRequest
from webui.containers.selectors import container_find
from webui.containers.services import container_act, container_create
from webui.core.dispatch import wait_for
from webui.hosts.selectors import current_host
from webui.operations.models import Operation

_PATIENCE = 60.0  # seconds for one operation
_WARM_UP = 2  # runs that do not count: the first of everything is slow

Stages = list[tuple[str, float]]


class Command(BaseCommand):
    help = "Run containers one after the other and show how long each stage of their start took."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("image")
        parser.add_argument("--times", type=int, default=20)
        parser.add_argument("--publish", default="")

    def handle(self, *args: Any, **options: Any) -> None:
        request = ContainerRequest(
            image=options["image"],
            command=["sleep", "3600"],
            ports=[options["publish"]] if options["publish"] else [],
            restart="no",
        )
        try:
            runs = [_run(request) for _ in range(_WARM_UP + max(2, options["times"]))][_WARM_UP:]
        except EngineError as error:
            raise CommandError(f"{error.message} {error.hint}".strip()) from error
        self.stdout.write(f"{'stage':<22}{'median':>10}{'95 %':>10}   milliseconds")
        for name, values in _by_stage(runs).items():
            high = quantiles(values, n=20, method="inclusive")[-1]
            self.stdout.write(f"{name:<22}{median(values):>10.2f}{high:>10.2f}")


def _run(request: ContainerRequest) -> Stages:
    begun = timezone.now()
    container, operation = container_create(
        host=current_host(),
        request=request,
        user=None,
        via="cli",
        publish_address=settings.ENVIRONMENT.publish_address,
    )
    try:
        _wait(operation)
        answered = timezone.now()
    finally:
        removal = container_act(
            container=container_find(container.pk),
            action="remove",
            user=None,
            via="cli",
            params={"force": True, "volumes": True},
        )
        _wait(removal)
    operation.refresh_from_db()
    return _stages(operation, begun, answered)


def _wait(operation: Operation) -> None:
    """Raises EngineError when it failed."""
    ended, _ = wait_for(operation, _PATIENCE)
    if ended.is_live or ended.error:
        raise EngineError(f"{ended.kind} did not succeed: {ended.error or 'it takes too long'}")


def _stages(operation: Operation, begun: datetime, answered: datetime) -> Stages:
    claimed = operation.started_at or begun
    ended = [(f"  {name}", ms) for name, ms in operation.result["stages"]]
    working = sum(ms for _, ms in ended)
    return [
        ("check and reserve", _ms(operation.created_at - begun)),
        ("to the worker", _ms(claimed - operation.created_at)),
        *ended,
        ("write and answer", _ms(answered - claimed) - working),
        ("all", _ms(answered - begun)),
    ]


def _ms(span: timedelta) -> float:
    return span.total_seconds() * 1000


def _by_stage(runs: list[Stages]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for stages in runs:
        for name, ms in stages:
            found.setdefault(name, []).append(ms)
    return found
