"""Work that may wait a moment is done once, and its faults stay its own."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest

from webui.core.soon import Soon
from webui.settings import SOON


def test_it_is_done_once_for_all_who_ask_meanwhile(settings: Any) -> None:
    settings.SOON = SOON
    done: list[int] = []
    ended = threading.Event()
    soon = Soon()
    for number in range(5):
        soon.ask("one", partial(done.append, number))
    soon.ask("two", ended.set)
    assert done == []
    assert ended.wait(10)
    assert done == [4]


def test_a_fault_is_logged_and_keeps_nothing_from_being_done(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.SOON = 0.01
    ended = threading.Event()
    soon = Soon()
    soon.ask("broken", _fail)
    soon.ask("whole", ended.set)
    assert ended.wait(10)
    assert "has failed" in caplog.text
    ended.clear()
    soon.ask("again", ended.set)
    assert ended.wait(10)


def _fail() -> None:
    raise ValueError("something nobody foresaw")


def test_without_a_delay_it_is_done_at_once(settings: Any) -> None:
    settings.SOON = 0
    done: list[int] = []
    Soon().ask("one", lambda: done.append(1))
    assert done == [1]
