"""Rates from two samples, and who gets which."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import fields, replace

import pytest

from runtime.model.stats import HostSample, StatsData, StatsSample
from workers.watcher.stats import Sampler, host_data, stats_data, stats_text

A, B = "a" * 64, "b" * 64
FIRST = StatsSample(id=A, time=1000.0, cpu_usage=10_000_000_000, memory=256, memory_limit=1024)


def test_a_busy_core_is_a_hundred_percent() -> None:
    now = replace(FIRST, time=1002.0, cpu_usage=FIRST.cpu_usage + 2_000_000_000)
    assert stats_data(now, FIRST)["cpu_percent"] == 100.0


def test_rates_are_bytes_per_second() -> None:
    now = replace(FIRST, time=1002.0, net_rx=2048, block_write=100)
    data = stats_data(now, FIRST)
    assert (data["net_rx_rate"], data["net_tx_rate"], data["block_write_rate"]) == (1024, 0, 50)


def test_throttling_is_a_share_of_the_periods_in_between() -> None:
    now = replace(FIRST, time=1001.0, cpu_periods=10, cpu_throttled_periods=4)
    assert stats_data(now, FIRST)["throttled_percent"] == 40.0


def test_memory_is_a_share_of_the_limit_and_nothing_without_one() -> None:
    assert stats_data(FIRST, None)["memory_percent"] == 25.0
    assert stats_data(replace(FIRST, memory_limit=0), None)["memory_percent"] == 0.0


@pytest.mark.parametrize(
    "now",
    [
        pytest.param(replace(FIRST, time=1020.0, cpu_usage=99 * 10**9), id="too long ago"),
        pytest.param(replace(FIRST, time=1001.0, cpu_usage=5), id="a restart set it back"),
        pytest.param(replace(FIRST, cpu_usage=99 * 10**9), id="at the same time"),
    ],
)
def test_no_rate_without_a_fitting_sample_before(now: StatsSample) -> None:
    assert stats_data(now, FIRST)["cpu_percent"] == 0.0


@pytest.mark.parametrize(
    ("now", "before"),
    [
        pytest.param(FIRST, None, id="the first"),
        pytest.param(
            StatsSample(
                id=A,
                time=1001.5,
                cpu_usage=10_700_000_001,
                cpu_limit=1.5,
                cpu_periods=7,
                cpu_throttled_periods=3,
                memory=10**12,
                memory_limit=2**62 - 1,
                net_rx=3_000_000_000_000,
                block_write=1,
                pressure={"cpu.some.avg10": 1.25, "io.full.avg10": 0.0},
            ),
            FIRST,
            id="one of everything",
        ),
        pytest.param(replace(FIRST, time=1001.0, cpu_usage=5), FIRST, id="after a restart"),
    ],
)
def test_the_quick_json_is_that_of_the_fields(now: StatsSample, before: StatsSample | None) -> None:
    assert json.loads(stats_text(now, before)) == stats_data(now, before)
    assert stats_data(now, before).keys() == {f.name for f in fields(StatsData)}


def test_each_busy_core_of_the_host_is_a_hundred_percent() -> None:
    before = HostSample(1000.0, 10.0, 100.0, 2, 1000, 600, 100, 50, 0, 0, 0.5)
    now = replace(before, time=1001.0, cpu_busy=12.0, cpu_total=102.0, net_rx=10)
    data = host_data(now, before)
    assert (data["cpu_percent"], data["memory_percent"], data["disk_percent"]) == (200, 40, 50)
    assert data["net_rx_rate"] == 10


class Source:
    """An engine with one container that runs."""

    def __init__(self) -> None:
        self.now = FIRST

    def stats_of(self, ids: Collection[str]) -> list[StatsSample]:
        return [self.now] if A in ids else []

    def host_sample(self) -> HostSample:
        return HostSample(1000.0, 1.0, 2.0, 2, 1000, 600, 100, 50, 0, 0, 0.5)


def test_a_container_that_is_gone_is_left_out() -> None:
    sampler = Sampler(Source(), clock=lambda: 1000.0)
    assert list(sampler.sample([A, B])) == [A]


def test_the_second_sample_has_rates() -> None:
    source = Source()
    sampler = Sampler(source, clock=lambda: 1000.0)
    sampler.sample([A])
    assert sampler.has_recent(A)
    source.now = replace(FIRST, time=1001.0, cpu_usage=FIRST.cpu_usage + 500_000_000)
    assert json.loads(sampler.sample([A])[A])["cpu_percent"] == 50.0


def test_an_old_sample_is_forgotten() -> None:
    time = 1000.0
    sampler = Sampler(Source(), clock=lambda: time)
    sampler.sample([A])
    time = 1011.0
    assert not sampler.has_recent(A)
