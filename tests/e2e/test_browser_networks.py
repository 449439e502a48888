"""A container's networks as somebody sees them, joins another one and leaves it, while it runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import SOON
from tests.support.platform import Api

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture
def backend(api: Api) -> Iterator[str]:
    name = "joined-later"
    api.post("/networks", {"name": name})
    yield name
    api.delete(f"/networks/{name}")


def test_a_network_is_joined_and_left_on_the_containers_page(
    page: Page, api: Api, starter: str, backend: str
) -> None:
    body = {"image": starter, "command": ["sleep", "600"]}
    web = api.post("/containers", {**body, "name": "joiner"})
    other = api.post("/containers", {**body, "name": "neighbour", "network": backend})
    page.goto(f"/containers/{web['id']}/")
    rows = page.get_by_test_id("container-network")
    expect(rows).to_have_count(1)
    page.get_by_test_id("connect-network").click()
    dialog = page.locator("#dialog")
    dialog.get_by_label("Network").select_option(api.get(f"/networks/{backend}")["id"])
    dialog.get_by_label("Further names there").fill("db, neighbour")
    dialog.get_by_test_id("confirm").click()
    expect(dialog.locator("#d-aliases")).to_have_attribute("aria-invalid", "true", timeout=SOON)
    expect(dialog).to_contain_text("is the name of another container")
    dialog.get_by_label("Further names there").fill("db")
    dialog.get_by_test_id("confirm").click()
    expect(rows).to_have_count(2, timeout=SOON)
    expect(rows.last).to_contain_text(backend)
    told = api.post(f"/containers/{web['id']}/exec", {"command": ["nslookup", "neighbour"]})
    assert other["networks"][0]["address"] in told["stdout"]

    page.goto("/networks/")
    expect(page.locator("#networks-live")).to_contain_text("joiner")
    page.goto(f"/containers/{web['id']}/")
    rows.last.get_by_test_id("disconnect-network").click()
    expect(dialog).to_contain_text("do not find it any more")
    dialog.get_by_test_id("confirm").click()
    expect(rows).to_have_count(1, timeout=SOON)
    page.goto(f"/containers/{web['id']}/?tab=events")
    expect(page.locator("#container-events")).to_contain_text("Joined a network")
    expect(page.locator("#container-events")).to_contain_text("Left a network")
    for each in (web, other):
        api.delete(f"/containers/{each['id']}", force=True)


def test_further_networks_are_rows_of_the_form(
    page: Page, api: Api, starter: str, backend: str
) -> None:
    page.goto(f"/containers/new/?image={starter}")
    page.locator("input[name=name]").fill("rowed")
    page.locator("input[name=command]").fill("sleep 600")
    page.get_by_test_id("add-network").click()
    row = page.locator("[data-row=networks]")
    # The first one that it is not on yet.
    expect(row.get_by_label("Further network", exact=True)).not_to_have_value("default")
    row.get_by_label("Further network", exact=True).select_option(backend)
    row.get_by_label("Further names on this network").fill("db, sql")
    row.locator("summary").click()
    row.get_by_label("MAC address").fill("03:00:00:00:00:01")
    row.locator("summary").click()
    line = page.get_by_test_id("run-line")
    words = f"--network name={backend},mac-address=03:00:00:00:00:01,alias=db,alias=sql"
    expect(line).to_contain_text(words)
    page.get_by_test_id("create").click()
    expect(row.get_by_label("MAC address")).to_have_attribute("aria-invalid", "true", timeout=SOON)
    expect(row.get_by_label("MAC address")).to_be_visible()
    row.get_by_label("MAC address").fill("")
    page.get_by_test_id("create").click()
    expect(page.get_by_test_id("container-network")).to_have_count(2, timeout=SOON)
    made = api.get("/containers/rowed/inspect")
    assert made["networks"][1]["name"] == backend
    assert made["spec"]["endpoints"][1]["aliases"] == ["db", "sql"]

    page.goto(f"/containers/new/?from={made['id']}")
    expect(row).to_have_count(1)
    expect(row.get_by_label("Further network", exact=True)).to_have_value(backend)
    expect(row.get_by_label("Further names on this network")).to_have_value("db, sql")
    row.get_by_label("Leave this network out").click()
    expect(row).to_have_count(0)
    page.locator("select[name=network]").select_option("none")
    expect(page.get_by_test_id("add-network")).to_be_hidden()
    api.delete(f"/containers/{made['id']}", force=True)


def test_a_network_gets_another_subnet_and_its_containers_start_there(
    page: Page, api: Api, starter: str, backend: str
) -> None:
    body = {"image": starter, "command": ["sleep", "600"], "network": backend}
    web = api.post("/containers", {**body, "name": "mover"})
    page.goto("/networks/")
    row = page.get_by_test_id("network-row").filter(has_text=backend)
    dialog = page.locator("#dialog")
    row.get_by_test_id("move-network").click()
    expect(dialog).to_contain_text("Stop mover first")
    expect(dialog.get_by_test_id("confirm")).to_be_disabled()
    dialog.get_by_role("button", name="Cancel").click()
    api.post(f"/containers/{web['id']}/stop")
    row.get_by_test_id("move-network").click()
    expect(dialog).to_contain_text(web["networks"][0]["address"])
    dialog.get_by_label("Subnet").fill("10.77.5.0/24")
    dialog.get_by_test_id("confirm").click()
    expect(row).to_contain_text("10.77.5.0/24", timeout=SOON)
    moved = api.post(f"/containers/{web['id']}/start")
    address = moved["networks"][0]["address"]
    assert address.startswith("10.77.5.")
    told = api.post(f"/containers/{web['id']}/exec", {"command": ["ip", "addr", "show", "eth0"]})
    assert f"inet {address}/24" in told["stdout"]
    api.delete(f"/containers/{web['id']}", force=True)
