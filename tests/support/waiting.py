"""Waiting for a fact instead of sleeping for a time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")

# On a machine that is slow all waits may be longer: the virtual machine sets it, see tests/support/vm.
PATIENCE = float(os.environ.get("SLIPWAY_TEST_PATIENCE", "1"))


def wait_until(
    check: Callable[[], T | None], *, timeout: float = 10.0, every: float = 0.01, what: str = ""
) -> T:
    """The first true answer of `check`, asked every `every` seconds; fails after `timeout` seconds."""
    timeout *= PATIENCE
    deadline = time.monotonic() + timeout
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() > deadline:
            pytest.fail(f"Not within {timeout} s: {what or check}")
        time.sleep(every)
