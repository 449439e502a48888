"""A headless Chromium that is signed in; an error in a page's scripts fails its test."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Error,
    Page,
    WebSocket,
    expect,
    sync_playwright,
)

from tests.support.platform import Platform

CHROMIUM = Path("/usr/bin/chromium")
# No sandbox: it needs a user other than root. The rest keeps the browser from calling home.
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# What the browser notes about every answer that refuses something, also what this host cannot do.
_REFUSED = re.compile("status of (4..|501)")
SOON = 15_000  # milliseconds


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip("needs Debian's chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser, platform: Platform) -> Iterator[Page]:
    """A fresh, signed-in browser window; an error in the page's scripts fails the test."""
    context = browser.new_context(base_url=platform.url, viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    opened.set_default_timeout(SOON)
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on(
        "console",
        lambda message: (
            errors.append(message.text)
            if message.type == "error" and not _REFUSED.search(message.text)
            else None
        ),
    )
    underway = _underway(opened)
    try:
        sign_in(opened, platform)
    except AssertionError as error:
        # What a page waits for is gone by the time that somebody reads of the failure.
        error.add_note(f"No answer yet: {sorted(underway)}; errors: {errors}")
        error.add_note(platform.log[-4000:])
        raise
    yield opened
    close(context)
    assert errors == []


def _underway(page: Page) -> set[str]:
    """The addresses that have been asked and have not answered, kept up to date; websockets until their first frame."""
    asked: set[str] = set()
    page.on("request", lambda request: asked.add(request.url))
    for event in ("requestfinished", "requestfailed"):
        page.on(event, lambda request: asked.discard(request.url))

    def opened(socket: WebSocket) -> None:
        asked.add(socket.url)
        socket.on("framereceived", lambda _: asked.discard(socket.url))

    page.on("websocket", opened)
    return asked


def close(context: BrowserContext) -> None:
    """Chromium may hang for minutes on a context whose pages are just going elsewhere: see them arrive first."""
    for opened in context.pages:
        _leave(opened)
    context.close()


def _leave(page: Page) -> None:
    """Go to the empty page, again after each of the page's own ways elsewhere that came between."""
    for _ in range(5):
        try:
            page.goto("about:blank")
        except Error as error:
            if "interrupted by another navigation" not in str(error):
                raise
        else:
            return


def sign_in(page: Page, platform: Platform) -> None:
    page.goto("/")
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password").fill(platform.password)
    page.get_by_test_id("sign-in").click()
    expect(page.get_by_test_id("connection")).to_have_attribute("data-state", "open", timeout=SOON)
