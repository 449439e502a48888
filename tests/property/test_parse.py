"""Whatever people type, the parsers answer with a value or with SpecInvalid; and ranges keep their promises."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import SpecInvalid
from runtime.model import parse, parse_mounts, parse_ports

PARSERS: list[Callable[[str], Any]] = [
    parse.parse_bytes,
    parse.parse_duration,
    parse.parse_signal,
    parse_ports.parse_port_spec,
    parse_mounts.parse_volume_spec,
    parse_mounts.parse_mount,
    parse.parse_restart,
    parse.parse_ulimit,
    parse.parse_env,
    parse.parse_cpuset,
]
near_misses = st.text(st.sampled_from("0123456789:-./,=[]abkmgtcpudSIGro \0é"), max_size=30)


@pytest.mark.parametrize("parser", PARSERS, ids=lambda p: p.__name__)
@given(text=st.one_of(st.text(max_size=40), near_misses))
def test_any_text_is_a_value_or_a_refusal(parser: Callable[[str], Any], text: str) -> None:
    with contextlib.suppress(SpecInvalid):
        parser(text)


@given(st.integers(0, 2**40), st.sampled_from(["", "b", "k", "m", "g", "KiB", "MB"]))
def test_whole_sizes_are_exact(number: int, unit: str) -> None:
    power = {"": 0, "b": 0, "k": 1, "kib": 1, "m": 2, "mb": 2, "g": 3}[unit.lower()]
    if number * 1024**power < 2**63:
        assert parse.parse_bytes(f"{number}{unit}") == number * 1024**power


@given(
    st.integers(1, 65535),
    st.integers(1, 65535),
    st.integers(0, 50),
    st.sampled_from(["tcp", "udp"]),
)
def test_a_range_maps_port_by_port(host: int, container: int, more: int, protocol: str) -> None:
    text = f"{host}-{host + more}:{container}-{container + more}/{protocol}"
    if max(host, container) + more > 65535:
        with pytest.raises(SpecInvalid):
            parse_ports.parse_port_spec(text)
        return
    mappings = parse_ports.parse_port_spec(text)
    assert [m.host_port for m in mappings] == list(range(host, host + more + 1))
    assert {m.host_port - m.container_port for m in mappings} == {host - container}
    assert {m.protocol for m in mappings} == {protocol}


@given(st.frozensets(st.integers(0, 300), min_size=1, max_size=20))
def test_a_cpuset_is_what_it_lists(numbers: frozenset[int]) -> None:
    assert parse.parse_cpuset(",".join(map(str, sorted(numbers)))) == numbers
