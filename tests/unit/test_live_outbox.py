"""What a slow browser gets: the truth, late, and never more than it can take."""

from __future__ import annotations

import asyncio

import pytest

from webui.live import outbox as module
from webui.live.outbox import Outbox, Overflow


async def test_messages_leave_in_order() -> None:
    outbox = Outbox()
    outbox.append("one")
    outbox.append("two")
    assert [await outbox.take(), await outbox.take()] == ["one", "two"]


async def test_a_newer_row_replaces_the_older_one() -> None:
    outbox = Outbox()
    outbox.put(("containers", "row", "a"), "old")
    outbox.put(("containers", "row", "b"), "other")
    outbox.put(("containers", "row", "a"), "new")
    assert [await outbox.take(), await outbox.take()] == ["new", "other"]


async def test_a_topic_can_be_dropped() -> None:
    outbox = Outbox()
    outbox.put(("containers", "row", "a"), "row")
    outbox.put(("images", "row", "a"), "image")
    outbox.drop("containers")
    assert await outbox.take() == "image"


async def test_a_browser_that_takes_nothing_overflows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    outbox = Outbox()
    outbox.append("one")
    outbox.put("key", "two")
    outbox.put("key", "two again")
    with pytest.raises(Overflow):
        outbox.append("three")


async def test_log_lines_wait_for_the_browser() -> None:
    outbox = Outbox()
    for number in range(module.MAX_LINES):
        await outbox.put_lines(str(number))
    waiting = asyncio.create_task(outbox.put_lines("last"))
    await asyncio.sleep(0)
    assert not waiting.done()
    assert await outbox.take() == "0"
    await waiting


async def test_take_waits_for_a_message() -> None:
    outbox = Outbox()
    taking = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    outbox.append("here")
    assert await taking == "here"
