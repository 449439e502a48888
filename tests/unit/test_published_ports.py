"""Published ports as nft lists them."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.network.ports import PublishedPort, from_element, loops_of


@pytest.mark.parametrize(
    ("shown", "name"), [("tcp", "tcp"), (6, "tcp"), (17, "udp"), (132, "sctp")]
)
def test_protocols_are_known_by_name_and_where_nothing_names_them_by_number(
    shown: str | int, name: Any
) -> None:
    key: list[Any] = [shown, 8080]
    loops = loops_of([[{"concat": key}, "fd00::1"]])
    element = [{"elem": {"val": {"concat": key}, "comment": "c"}}, {"concat": ["fd00::2", 80]}]
    port = PublishedPort("c", name, "::", 8080, "fd00::2", 80, loop="fd00::1")
    assert from_element(element, loops) == port
