"""A terminal in a container, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.support.platform import Api

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture
def web(api: Api, starter: str) -> Iterator[str]:
    row = api.post("/containers", {"image": starter, "command": ["sleep", "1000"], "start": True})
    yield row["id"]
    api.delete(f"/containers/{row['id']}", force=True)


def test_it_shows_what_is_typed_and_said_and_how_it_ended(page: Page, web: str) -> None:
    page.goto(f"/containers/{web}/?tab=terminal")
    frame = page.frame_locator("iframe.terminal-frame")
    expect(frame.locator("#terminal-state")).to_have_text("Connected")
    page.keyboard.type("stty size; echo $((6*7)) $TERM\n")
    expect(frame.locator(".xterm-rows")).to_contain_text("42 xterm-256color")
    page.keyboard.type("exit 3\n")
    expect(frame.locator("#terminal-state")).to_have_text("Ended with exit code 3")


def test_a_shell_that_there_is_not_is_said(page: Page, web: str) -> None:
    page.goto(f"/containers/{web}/?tab=terminal")
    frame = page.frame_locator("iframe.terminal-frame")
    expect(frame.locator("#terminal-state")).to_have_text("Connected")
    frame.get_by_role("button", name="Disconnect").click()
    frame.get_by_label("Command").fill("/bin/frobnicate")
    frame.get_by_role("button", name="Connect").click()
    expect(frame.locator("#terminal-state")).to_contain_text("no /bin/frobnicate")


def test_its_process_ends_with_the_page(page: Page, api: Api, web: str) -> None:
    page.goto(f"/containers/{web}/?tab=terminal")
    frame = page.frame_locator("iframe.terminal-frame")
    expect(frame.locator("#terminal-state")).to_have_text("Connected")
    page.keyboard.type("sleep 4321\n")
    expect(frame.locator(".xterm-rows")).to_contain_text("sleep 4321")
    page.goto("/")

    def processes() -> str:
        done = api.http.post(f"/containers/{web}/exec", json={"command": "ps"})
        return str(done.json()["stdout"])

    for _ in range(100):
        if "sleep 4321" not in processes():
            return
        page.wait_for_timeout(50)
    pytest.fail("the process goes on")


def test_its_processes_are_shown(page: Page, web: str) -> None:
    page.goto(f"/containers/{web}/?tab=processes")
    table = page.get_by_test_id("processes")
    expect(table.locator("tbody tr")).to_have_count(1)
    expect(table.locator("tbody")).to_contain_text("sleep 1000")
