"""A container's files in a real browser: looked at, put in, marked as its own, made an image of."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import SOON
from tests.support.platform import Api
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

SCRIPT = "mkdir /srv; echo hello > /srv/greeting; rm /etc/group; ln -s /srv /way; echo ready; exec sleep 1000"


@pytest.fixture
def container(api: Api, starter: str) -> Iterator[str]:
    """The page of one that runs and has changed its files."""
    body = {"image": starter, "command": ["sh", "-c", SCRIPT], "volumes": ["kept:/kept"]}
    row = api.post("/containers", {**body, "name": "with-files", "start": True})
    url = f"/containers/{row['id']}"
    wait_until(lambda: "ready" in api.http.get(f"{url}/logs").text, what="the files")
    yield f"{url}/"
    api.delete(url, force=True)


def test_files_are_looked_at_put_in_and_taken_out(
    page: Page, api: Api, container: str, tmp_path: Path
) -> None:
    page.goto(f"{container}?tab=files")
    rows = page.get_by_test_id("file")
    row = {name: rows.and_(page.locator(f'[data-name="{name}"]')) for name in ("srv", "etc", "bin")}
    expect(row["srv"].locator("[data-change]")).to_have_text("added")
    expect(row["etc"].locator("[data-change]")).to_have_text("changed")
    expect(row["bin"].locator("[data-change]")).to_have_count(0)
    page.get_by_role("link", name="kept", exact=True).click()
    expect(page.get_by_test_id("files-note")).to_contain_text("In volume kept: it stays")
    page.go_back()
    page.get_by_role("link", name="way", exact=True).click()
    # Where the link leads to, not where it lies.
    expect(page.locator(".breadcrumb [aria-current=page]")).to_have_text("srv")
    page.get_by_role("button", name="greeting").click()
    expect(page.get_by_test_id("file-text")).to_have_text("hello\n")
    page.keyboard.press("Escape")

    large, odd = tmp_path / "large", tmp_path / f"{'ä' * 60}.txt"
    large.write_bytes(bytes(range(256)) * 12_000)
    odd.write_text("odd")
    (tmp_path / "greeting").write_text("other")
    choose = page.locator("file-browser input[type=file]")
    choose.set_input_files([large, odd])
    note = page.get_by_test_id("files-note")
    expect(note).to_contain_text("Uploaded 2 files. 3 names.", timeout=SOON)
    choose.set_input_files([tmp_path / "greeting"])
    page.locator("dialog#dialog").get_by_test_id("confirm").click()
    expect(note).to_contain_text("Uploaded greeting. 3 names.", timeout=SOON)
    page.get_by_role("button", name="greeting").click()
    expect(page.get_by_test_id("file-text")).to_have_text("other")
    page.keyboard.press("Escape")
    with page.expect_download() as taken:
        page.get_by_role("link", name="Download large").click()
    assert taken.value.suggested_filename == "large"
    assert Path(taken.value.path()).read_bytes() == large.read_bytes()
    with page.expect_download() as taken:
        page.get_by_role("link", name="Download", exact=True).click()
    assert taken.value.suggested_filename == "srv.tar"
    with tarfile.open(taken.value.path()) as tar:
        assert {m.name for m in tar} == {"srv", "srv/large", f"srv/{odd.name}", "srv/greeting"}

    page.goto(f"{container}?tab=files&path=/etc")
    expect(page.locator('[data-testid=file][data-name="group"] [data-change]')).to_have_text(
        "deleted"
    )
    page.goto(f"{container}?tab=files&path=/no/such")
    expect(page.locator("file-browser [role=alert]")).to_contain_text("/no/such")


def test_what_it_has_changed_is_listed_and_made_an_image(
    page: Page, api: Api, container: str
) -> None:
    page.goto(f"{container}?tab=changes")
    note = page.get_by_test_id("changes-note")
    expect(note).to_contain_text("removing the container deletes what is added and changed")
    rows = page.get_by_test_id("change")
    assert {tuple(text.split("\t")) for text in rows.all_inner_texts()} >= {
        ("added", "/srv/greeting", "6 B"),
        ("changed", "/etc", ""),
        ("deleted", "/etc/group", ""),
    }
    page.get_by_role("button", name="Deleted").click()
    expect(rows).to_have_count(1)
    page.get_by_role("button", name="Commit as image").first.click()
    dialog = page.locator("dialog#dialog")
    expect(dialog).to_contain_text("Not in it: what is at /kept")
    dialog.locator("summary").click()
    dialog.locator("textarea[name=changes]").fill("USER root\nRUN make")
    dialog.get_by_test_id("confirm").click()
    expect(dialog.locator(".field-error")).to_contain_text("RUN make")
    dialog.locator("textarea[name=changes]").fill("CMD cat /srv/greeting")
    dialog.locator("input[name=reference]").fill("made/by-hand:1")
    dialog.get_by_test_id("confirm").click()
    expect(dialog).to_be_hidden()
    expect(page.locator("#toasts")).to_contain_text("made/by-hand:1 is made", timeout=SOON)
    page.goto("/images/")
    expect(page.get_by_test_id("image-row").filter(has_text="made/by-hand:1")).to_be_visible()
    api.delete("/images/made/by-hand:1")
    with page.expect_download() as taken:
        page.goto(container)
        page.get_by_label("More actions").click()
        page.get_by_test_id("action-export").click()
    assert taken.value.suggested_filename == "with-files.tar"
    with tarfile.open(fileobj=io.BytesIO(Path(taken.value.path()).read_bytes())) as tar:
        assert "./srv/greeting" in tar.getnames()
