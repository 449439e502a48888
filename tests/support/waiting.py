"""Waiting for a fact instead of sleeping for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")


def wait_until(
    check: Callable[[], T | None], *, timeout: float = 10.0, every: float = 0.01, what: str = ""
) -> T:
    """The first true answer of `check`, asked every `every` seconds; fails after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() > deadline:
            pytest.fail(f"Not within {timeout} s: {what or check}")
        time.sleep(every)
