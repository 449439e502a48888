"""Specifications for tests: valid ones, of which a test changes what it is about."""

from __future__ import annotations

import dataclasses
import secrets
from typing import Any

from runtime.model.spec import ContainerSpec, EndpointSpec, Process

IMAGE = "sha256:" + "0" * 64
NETWORK = "b" * 64


def endpoint(**changes: Any) -> EndpointSpec:
    made = EndpointSpec(
        network_id=NETWORK,
        address="10.90.0.5",
        prefix_length=24,
        gateway="10.90.0.1",
        mac_address="02:42:0a:5a:00:05",
    )
    return dataclasses.replace(made, **changes)


def container(*args: str, **changes: Any) -> ContainerSpec:
    """A container that runs `args` (default: sleep), with a random id and a name from it."""
    container_id = changes.pop("id", secrets.token_hex(32))
    process = dataclasses.replace(
        Process(args=args or ("sleep", "1000")), **changes.pop("process", {})
    )
    made = ContainerSpec(
        id=container_id,
        name=f"c-{container_id[:8]}",
        image=IMAGE,
        image_reference="slipway/starter:latest",
        process=process,
    )
    return dataclasses.replace(made, **changes)
