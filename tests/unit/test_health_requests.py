"""What a request says of health checks, over what the image says."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.errors import SpecInvalid
from runtime.model.spec import Health
from webui.containers.health import health_of, health_request
from webui.containers.requests import HealthRequest

IMAGE = {"healthcheck": {"Test": ["CMD", "/check"], "Interval": 5_000_000_000, "Retries": 2}}


@pytest.mark.parametrize(
    ("request_", "config", "expected"),
    [
        ({}, {}, None),
        ({}, IMAGE, Health(("/check",), interval=5, retries=2)),
        ({"disable": True}, IMAGE, None),
        ({"command": "curl -f x"}, {}, Health(("/bin/sh", "-c", "curl -f x"))),
        ({"command": ["a", "b"]}, IMAGE, Health(("a", "b"), interval=5, retries=2)),
        ({"interval": "1m30s", "retries": 9}, IMAGE, Health(("/check",), interval=90, retries=9)),
        ({"command": "x"}, {"shell": ["/bin/ash", "-ec"]}, Health(("/bin/ash", "-ec", "x"))),
    ],
)
def test_the_request_comes_over_the_image(
    request_: dict[str, Any], config: dict[str, Any], expected: Health | None
) -> None:
    health = health_of(HealthRequest(**request_), config)
    assert health == expected
    again = HealthRequest(**health_request(health, config))
    assert health_of(again, config) == expected


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"interval": "soon", "command": "x"}, "health.interval"),
        ({"interval": "5s"}, "health.command"),
        ({"command": "x", "disable": True}, "health.command"),
    ],
)
def test_what_makes_no_sense_is_named(request_: dict[str, Any], field: str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        health_of(HealthRequest(**request_), {})
    assert caught.value.field == field
