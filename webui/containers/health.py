"""Health checks: as a request says them over the image's, and back again."""

from __future__ import annotations

import dataclasses
import shlex
from typing import Any

from runtime.errors import SpecInvalid
from runtime.model.parse import parse_duration
from runtime.model.spec import Health
from webui.containers.requests import HealthRequest

_DURATIONS = ("interval", "timeout", "start_period", "start_interval")
_SHELL = ("/bin/sh", "-c")


def health_of(request: HealthRequest, config: dict[str, Any]) -> Health | None:
    """The check that the container gets; None for none. `config` is the image's.

    Raises SpecInvalid with the field, also for times of a check that there is not.
    """
    if request.disable:
        if request.command:
            raise SpecInvalid(
                "health.command", "A command and no check exclude each other.", hint="Drop one."
            )
        return None
    shell = tuple(config.get("shell") or _SHELL)
    found = _of_image(config.get("healthcheck") or {}, shell)
    if request.command:
        words = request.command
        test = tuple(words) if isinstance(words, list) else (*shell, words)
        # As with Docker, the image's times hold where the request says none.
        found = dataclasses.replace(found, test=test) if found else Health(test)
    changes: dict[str, Any] = {}
    for name in _DURATIONS:
        value = getattr(request, name)
        # 0 is Docker's word for what the image says, or the usual.
        if value not in (None, "") and (seconds := parse_duration(value, f"health.{name}")) > 0:
            changes[name] = seconds
    if request.retries is not None:
        changes["retries"] = request.retries
    if found is None:
        if changes:
            raise SpecInvalid(
                "health.command", "The image has no health check.", hint="Name a command."
            )
        return None
    return dataclasses.replace(found, **changes)


def _of_image(check: dict[str, Any], shell: tuple[str, ...]) -> Health | None:
    """The image's HEALTHCHECK; Docker counts its durations in nanoseconds."""
    test = list(check.get("Test") or ())
    if not test or test[0] == "NONE":
        return None
    test = [*shell, *test[1:]] if test[0] == "CMD-SHELL" else test[1:]

    def seconds(name: str, default: float) -> float:
        return float(check.get(name) or 0) / 1e9 or default

    return Health(
        test=tuple(test),
        interval=seconds("Interval", 30.0),
        timeout=seconds("Timeout", 30.0),
        retries=int(check.get("Retries") or 3),
        start_period=seconds("StartPeriod", 0.0),
        start_interval=seconds("StartInterval", 5.0),
    )


def health_request(health: Health | None, config: dict[str, Any]) -> dict[str, Any]:
    """The request that makes `health` of the image's again; {} where it is the image's own."""
    own = health_of(HealthRequest(), config)
    if health == own:
        return {}
    if health is None:
        return {"disable": True}
    shell = tuple(config.get("shell") or _SHELL)
    line = len(health.test) == len(shell) + 1 and health.test[: len(shell)] == shell
    request: dict[str, Any] = {"command": health.test[-1] if line else list(health.test)}
    usual = own or Health(health.test)
    for name in (*_DURATIONS, "retries"):
        if (value := getattr(health, name)) != getattr(usual, name):
            request[name] = value
    return request


def health_words(health: Health | None) -> list[tuple[str, str]]:
    """For the details page."""
    if health is None:
        return []
    times = f"every {health.interval:g} s, at most {health.timeout:g} s each"
    words = [("Health check", shlex.join(health.test)), ("Looks", times)]
    words.append(("Unhealthy after", f"{health.retries} in a row"))
    if health.start_period:
        start = f"{health.start_period:g} s, every {health.start_interval:g} s"
        words.append(("May start for", start))
    return words
