"""What a container has on the host's network is taken away as far as that goes."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.engine.wiring import Wiring
from runtime.errors import FirewallFailure
from tests.support.specs import NETWORK, container, endpoint

SPEC = container(endpoints=(endpoint(),))


class Networks:
    """Takes links away, but neither names nor ports."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def unregister_names(self, _container_id: str) -> None:
        self.asked.append("names")
        raise OSError("The disk is broken.")

    def unpublish(self, _container_id: str) -> None:
        self.asked.append("ports")
        raise FirewallFailure("Not now.")

    def detach(self, _container_id: str, network_id: str) -> None:
        self.asked.append(network_id)


def test_each_part_is_tried_and_the_first_error_is_told() -> None:
    networks: Any = Networks()
    with pytest.raises(OSError, match="broken"):
        Wiring(networks).disconnect(SPEC)
    assert networks.asked == ["names", "ports", NETWORK]


def test_also_by_the_id_alone() -> None:
    networks: Any = Networks()
    with pytest.raises(OSError, match="broken"):
        Wiring(networks).forget(SPEC.id)
    assert networks.asked == ["names", "ports"]
