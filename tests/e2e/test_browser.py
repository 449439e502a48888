"""What a new user does, in a real browser, on a real nginx image made from Debian's packages."""

from __future__ import annotations

import os
import re
import signal
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import SOON, close, sign_in
from tests.support.images import docker_archive, layer
from tests.support.platform import Api, Platform, free_port
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


def test_a_wrong_password_is_refused(browser: Browser, platform: Platform) -> None:
    context = browser.new_context(base_url=platform.url)
    page = context.new_page()
    page.goto("/containers/")
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password").fill("not this")
    page.get_by_test_id("sign-in").click()
    expect(page.get_by_role("alert").first).to_be_visible()
    close(context)


def test_from_an_archive_to_a_removed_container(
    page: Page, browser: Browser, platform: Platform, nginx_archive: Path
) -> None:
    port = free_port()
    _import_image(page, nginx_archive)
    _create(page, port)
    status = page.get_by_test_id("container-status")
    expect(status).to_have_attribute("data-status", "running", timeout=SOON)
    container = page.url.rstrip("/").rpartition("/")[2]

    _answers(port)
    _watch_charts(page)
    _read_logs(page, port)

    # Another browser's list moves by itself.
    other = browser.new_context(base_url=platform.url).new_page()
    sign_in(other, platform)
    other.goto("/containers/")
    row = other.locator(f'tr[data-testid=container-row][data-id="{container}"]')
    expect(row).to_have_attribute("data-status", "running")

    page.goto(f"/containers/{container}/")
    for action, then in (
        ("pause", "paused"),
        ("unpause", "running"),
        ("stop", "exited"),
        ("start", "running"),
    ):
        page.get_by_test_id(f"action-{action}").click()
        expect(status).to_have_attribute("data-status", then, timeout=SOON)
        expect(row).to_have_attribute("data-status", then, timeout=SOON)
    _answers(port)

    page.get_by_test_id("action-kill").click()
    page.locator("dialog#dialog").get_by_test_id("confirm").click()
    expect(status).to_have_attribute("data-status", "exited", timeout=SOON)
    expect(page.get_by_test_id("exit-text")).to_contain_text("137")

    page.get_by_test_id("action-remove").click()
    page.locator("dialog#dialog").get_by_test_id("confirm").click()
    expect(row).to_have_count(0, timeout=SOON)
    close(other.context)
    page.goto("/volumes/")
    expect(page.get_by_test_id("volume-row").filter(has_text="pages")).to_have_count(1)


def test_a_button_that_was_pressed_never_says_one_thing_and_does_another(
    page: Page, api: Api, starter: str
) -> None:
    row = api.post("/containers", {"image": starter, "command": ["sleep", "600"], "start": True})
    labels = {"start": "Start", "unpause": "Resume", "stop": "Stop", "restart": "Restart"}
    labels |= {"pause": "Pause", "kill": "Kill", "remove": "Remove"}
    page.goto(f"/containers/{row['id']}/")
    buttons = page.locator("button[data-testid^=action-].button")
    for action, then in (
        ("pause", {"unpause", "stop", "restart", "kill", "remove"}),
        ("unpause", {"stop", "restart", "pause", "kill", "remove"}),
        ("stop", {"start", "restart", "remove"}),
        ("start", {"stop", "restart", "pause", "kill", "remove"}),
    ):
        pressed = page.get_by_test_id(f"action-{action}")
        pressed.focus()
        pressed.press("Enter")
        expect(pressed).to_have_count(0, timeout=SOON)
        shown = {each.get_attribute("data-testid"): each.inner_text() for each in buttons.all()}
        assert shown == {f"action-{name}": labels[name] for name in then}
    api.delete(f"/containers/{row['id']}", force=True)


def test_a_limit_that_changes_shows_beside_what_is_used(page: Page, api: Api, starter: str) -> None:
    row = api.post("/containers", {"image": starter, "command": ["sleep", "600"], "start": True})
    page.goto(f"/containers/{row['id']}/")
    gauge = page.locator(".gauge").filter(has_text="Memory")
    expect(gauge).to_contain_text("no limit")
    expect(page.get_by_test_id("connection")).to_have_attribute("data-state", "open")
    api.http.patch(f"/containers/{row['id']}", json={"limits": {"memory": "64m"}})
    expect(gauge).to_contain_text("of 64 MiB", timeout=SOON)
    api.delete(f"/containers/{row['id']}", force=True)


def test_an_out_of_memory_kill_is_named(page: Page, starter: str) -> None:
    page.goto(f"/containers/new/?image={starter}")
    page.locator("input[name=command]").fill("sh -c 'head -c 200000000 /dev/zero | tail'")
    page.locator("input[name=memory]").fill("16m")
    page.get_by_test_id("create").click()
    page.wait_for_url(re.compile(r"/containers/[0-9a-f]{64}/"))
    expect(page.get_by_test_id("container-status")).to_have_attribute(
        "data-status", "exited", timeout=SOON
    )
    expect(page.get_by_test_id("exit-text")).to_contain_text(re.compile("memory|OOM"))


def test_a_bad_field_says_so_beneath_it_and_keeps_what_was_typed(page: Page, starter: str) -> None:
    page.goto(f"/containers/new/?image={starter}")
    page.locator("input[name=command]").fill("sleep 600")
    page.locator("input[name=memory]").fill("much")
    page.get_by_test_id("create").click()
    expect(page.locator(".field-error").first).to_be_visible()
    assert page.locator("input[name=command]").input_value() == "sleep 600"


def test_the_images_page_counts_what_comes_and_keeps_its_buttons(
    page: Page, api: Api, starter: str, tmp_path: Path
) -> None:
    page.goto("/images/")
    expect(page.get_by_test_id("connection")).to_have_attribute("data-state", "open")
    rows = page.get_by_test_id("image-row")
    before = rows.count()
    archive = docker_archive(tmp_path / "one.tar", [layer({"one": starter})])
    with archive.open("rb") as file:
        api.http.post("/images/import", files={"archive": file}, data={"reference": "one:1"})
    expect(rows).to_have_count(before + 1, timeout=SOON)
    expect(page.locator("h1 .count")).to_have_text(str(before + 1))
    expect(page.locator("[data-testid=image-row] copy-button button")).to_have_count(before + 1)
    api.delete("/images/one:1")


def test_a_container_without_limits_carries_a_warning(page: Page, starter: str) -> None:
    page.goto(f"/containers/new/?image={starter}")
    expect(page.locator("[data-testid=warning][data-rule=memory]")).to_be_visible()


def _import_image(page: Page, archive: Path) -> None:
    page.goto("/images/")
    page.get_by_test_id("import-image").click()
    dialog = page.locator("dialog#dialog")
    dialog.locator("input[name=archive]").set_input_files(archive)
    dialog.locator("input[name=reference]").fill("web/nginx:test")
    dialog.get_by_test_id("confirm").click()
    row = page.get_by_test_id("image-row").filter(has_text="web/nginx:test")
    expect(row).to_be_visible(timeout=60_000)
    row.get_by_test_id("run-image").click()
    page.wait_for_url("**/containers/new/**")


def _create(page: Page, port: int) -> None:
    page.locator("input[name=name]").fill("front")
    page.locator("input[name=memory]").fill("128m")
    page.get_by_test_id("add-port").click()
    ports = page.locator("[data-row=ports]").last
    ports.locator("input[name=host_port]").fill(str(port))
    ports.locator("input[name=container_port]").fill("80")
    page.get_by_test_id("add-mount").click()
    mount = page.locator("[data-row=mounts]").last
    mount.locator("select[name=mount_type]").select_option("volume")
    mount.locator("input[name=mount_source]").fill("pages")
    mount.locator("input[name=mount_target]").fill("/pages")
    page.get_by_test_id("create").click()
    page.wait_for_url(re.compile(r"/containers/[0-9a-f]{64}/"))


def _answers(port: int) -> None:
    def fetch() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2) as answer:
                return b"nginx" in answer.read()
        except OSError:
            return False

    wait_until(fetch, every=0.1, what=f"nginx answers on port {port}")


def _watch_charts(page: Page) -> None:
    page.get_by_role("navigation", name="Container").get_by_role("link", name="Stats").click()
    memory = page.locator("stat-chart[data-metric=memory]")
    expect(memory.get_by_test_id("value")).to_contain_text(re.compile(r"\d"), timeout=SOON)
    expect(memory.locator("canvas")).to_be_visible()


def _read_logs(page: Page, port: int) -> None:
    """A request that nginx writes about appears while the page is open."""
    page.get_by_role("navigation", name="Container").get_by_role("link", name="Logs").click()
    expect(page.locator("log-view")).to_be_visible()
    urllib.request.urlopen(f"http://127.0.0.1:{port}/?from-the-test", timeout=5).close()
    expect(page.locator(".log-line[data-stream=stdout]").last).to_contain_text(
        "from-the-test", timeout=SOON
    )


def test_who_is_signed_out_signs_in_and_is_back(page: Page, platform: Platform) -> None:
    page.goto("/containers/?sort=-name")
    expect(page.get_by_test_id("connection")).to_have_attribute("data-state", "open")
    page.context.clear_cookies()
    # The connection breaks, and the next one is nobody's.
    os.kill(platform.pid("web"), signal.SIGKILL)
    expect(page).to_have_url(
        re.compile(r"/login/\?next=%2Fcontainers%2F%3Fsort%3D-name"), timeout=30_000
    )
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password").fill(platform.password)
    page.get_by_test_id("sign-in").click()
    expect(page).to_have_url(re.compile(r"/containers/\?sort=-name"))


def test_the_parts_of_a_long_line_are_one_line(page: Page, api: Api, starter: str) -> None:
    command = "head -c 150000 /dev/zero | tr '\\0' x; echo; printf 'name? '; sleep 2; echo Ada; exec sleep 1000"
    row = api.post(
        "/containers",
        {"image": starter, "name": "long-line", "command": ["sh", "-c", command], "start": True},
    )
    page.goto(f"/containers/{row['id']}/?tab=logs")
    lines = page.locator(".log-line .log-text")
    expect(lines.nth(1)).to_have_text("name? ")
    expect(lines.nth(1)).to_have_text("name? Ada")
    expect(lines).to_have_count(2)
    assert len(lines.first.inner_text()) == 150_000
    text = api.http.get(f"/containers/{row['id']}/logs").text
    assert text == f"{'x' * 150_000}\nname? Ada\n"
    api.delete(f"/containers/{row['id']}", force=True)


# The page's first websocket never hears of its handshake again.
_SILENT_ONCE = """
    const Real = WebSocket;
    window.WebSocket = class extends EventTarget {
        constructor() {
            super();
            window.WebSocket = Real;
        }
        readyState = Real.CONNECTING;
        send() {}
        close() {
            this.dispatchEvent(new CloseEvent("close", { code: 1006 }));
        }
    };
    window.WebSocket.OPEN = Real.OPEN;
"""


def test_a_handshake_without_an_answer_is_given_up_and_made_again(page: Page) -> None:
    page.add_init_script(_SILENT_ONCE)
    page.clock.install()
    page.reload()
    connection = page.get_by_test_id("connection")
    expect(connection).to_have_attribute("data-state", "connecting")
    page.clock.fast_forward(8_000)
    expect(connection).to_have_attribute("data-state", "reconnecting")
    page.clock.fast_forward(1_000)
    expect(connection).to_have_attribute("data-state", "open")
