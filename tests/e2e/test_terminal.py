"""A terminal in a container, in a real browser.

The page comes last among what a test asks for, so that it closes before its container is removed: the page would
leave for the list of containers just then, and Chromium does not close one that does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import FrameLocator, Page, expect

from tests.support.platform import Api

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture
def web(api: Api, starter: str) -> Iterator[str]:
    row = api.post("/containers", {"image": starter, "command": ["sleep", "1000"], "start": True})
    yield row["id"]
    api.delete(f"/containers/{row['id']}", force=True)


def test_it_shows_what_is_typed_and_said_and_how_it_ended(web: str, page: Page) -> None:
    page.goto(f"/containers/{web}/?tab=terminal")
    frame = page.frame_locator("iframe.terminal-frame")
    expect(frame.locator("#terminal-state")).to_have_text("Connected")
    page.keyboard.type("stty size; echo $((6*7)) $TERM\n")
    expect(frame.locator(".xterm-rows")).to_contain_text("42 xterm-256color")
    page.keyboard.type("exit 3\n")
    expect(frame.locator("#terminal-state")).to_have_text("Ended with exit code 3")


def test_a_shell_that_there_is_not_is_said(web: str, page: Page) -> None:
    page.goto(f"/containers/{web}/?tab=terminal")
    frame = page.frame_locator("iframe.terminal-frame")
    expect(frame.locator("#terminal-state")).to_have_text("Connected")
    frame.get_by_role("button", name="Disconnect").click()
    frame.get_by_label("Command").fill("/bin/frobnicate")
    frame.get_by_role("button", name="Connect").click()
    expect(frame.locator("#terminal-state")).to_contain_text("no /bin/frobnicate")


def test_its_process_ends_with_the_page(web: str, page: Page, api: Api) -> None:
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


def test_its_processes_are_shown(web: str, page: Page) -> None:
    page.goto(f"/containers/{web}/?tab=processes")
    table = page.get_by_test_id("processes")
    expect(table.locator("tbody tr")).to_have_count(1)
    expect(table.locator("tbody")).to_contain_text("sleep 1000")


# -- the container's own process -----------------------------------------------------------------


@pytest.fixture
def run(api: Api, starter: str) -> Iterator[Callable[..., str]]:
    made = []

    def begin(*command: str, **fields: Any) -> str:
        body = {"image": starter, "command": list(command), "start": True} | fields
        made.append(api.post("/containers", body)["id"])
        return str(made[-1])

    yield begin
    for container in made:
        api.delete(f"/containers/{container}", force=True)


def attach(page: Page, container: str) -> FrameLocator:
    page.goto(f"/containers/{container}/?tab=terminal")
    frame = page.frame_locator("iframe.terminal-frame")
    expect(frame.locator("#terminal-state")).to_have_text("Connected")
    expect(frame.locator("#terminal-note")).to_be_hidden()
    frame.get_by_label("Connect to").select_option("attach")
    expect(frame.locator("#terminal-state")).to_contain_text("Attached")
    expect(frame.get_by_label("Command")).to_be_hidden()
    return frame


def test_its_own_shell_can_be_attached_to_and_left_running(
    run: Callable[..., str], page: Page, api: Api
) -> None:
    web = run("sh", tty=True, stdin=True)
    frame = attach(page, web)
    expect(frame.locator("#terminal-note")).to_contain_text("Ctrl-C reaches the main process")
    page.keyboard.type("echo $((6*7)) $$\n")
    expect(frame.locator(".xterm-rows")).to_contain_text("42 1")
    page.keyboard.press("Control+p")
    page.keyboard.press("Control+q")
    expect(frame.locator("#terminal-state")).to_have_text("Detached: it goes on")
    assert api.get(f"/containers/{web}")["status"] == "running"
    frame.get_by_role("button", name="Connect").click()
    expect(frame.locator("#terminal-state")).to_have_text("Attached")
    expect(frame.locator(".xterm-rows")).to_contain_text("42 1")  # what it said before
    page.keyboard.type("exit 3\n")
    expect(frame.locator("#terminal-state")).to_have_text("Ended with exit code 3")


def test_lines_are_typed_into_a_process_without_a_terminal(
    run: Callable[..., str], page: Page
) -> None:
    web = run("sh", "-c", "while read x; do echo $x:$x; done; exit 4", stdin=True, stdin_once=True)
    frame = attach(page, web)
    expect(frame.locator("#terminal-note")).to_contain_text("line by line")
    page.keyboard.type("onf")
    page.keyboard.press("Backspace")
    page.keyboard.type("e\n")
    expect(frame.locator(".xterm-rows")).to_contain_text("one:one")
    page.keyboard.press("Control+d")
    expect(frame.locator("#terminal-state")).to_have_text("Ended with exit code 4")


def test_what_takes_no_input_is_only_looked_at(run: Callable[..., str], page: Page) -> None:
    web = run("sh", "-c", "while :; do echo tick; sleep 0.2; done")
    frame = attach(page, web)
    expect(frame.locator("#terminal-state")).to_have_text("Attached, read only")
    expect(frame.locator("#terminal-note")).to_contain_text("Read only")
    expect(frame.locator(".xterm-rows")).to_contain_text("tick")
