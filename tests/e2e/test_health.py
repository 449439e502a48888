"""Health checks, asked for through REST and seen on the page."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support.platform import Api
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def test_a_container_is_seen_to_fall_ill_and_recover(page: Page, api: Api, starter: str) -> None:
    row = api.post(
        "/containers",
        {
            "image": starter,
            "command": ["sleep", "1000"],
            "health": {"command": "echo looked; test ! -e /ill", "interval": "200ms", "retries": 2},
            "start": True,
        },
    )
    page.goto(f"/containers/{row['id']}/")

    def seen(status: str) -> dict[str, Any]:
        def check() -> dict[str, Any] | None:
            health: dict[str, Any] = api.get(f"/containers/{row['id']}")["health"]
            return health if health["status"] == status else None

        return wait_until(check, what=status)

    seen("healthy")
    expect(page.locator("h1").locator("..").get_by_text("healthy", exact=True)).to_be_visible()
    api.http.post(f"/containers/{row['id']}/exec", json={"command": "touch /ill"})
    log = seen("unhealthy")["log"]
    assert (log[-1]["exit_code"], log[-1]["output"].strip()) == (1, "looked")
    assert len(log) <= 5
    expect(page.locator("h1").locator("..").get_by_text("unhealthy", exact=True)).to_be_visible()
    page.reload()
    expect(page.get_by_test_id("health")).to_contain_text("looked")
    api.http.post(f"/containers/{row['id']}/exec", json={"command": "rm /ill"})
    seen("healthy")
    api.delete(f"/containers/{row['id']}", force=True)
