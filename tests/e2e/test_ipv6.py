"""Networks with IPv6 on a whole platform, in a network namespace of the test's own: it changes the host's settings."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from runtime.network.sysctls import has_ipv6
from tests.support.browser import SOON
from tests.support.netns import fresh_netns
from tests.support.platform import Api, Platform, free_port
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.skipif(not has_ipv6(), reason="this kernel has no IPv6"),
    pytest.mark.timeout(300),
]
SERVER = "mkdir -p /www; echo hello > /www/index.html; exec httpd -f -p [::]:80 -h /www"


@pytest.fixture(scope="module", autouse=True)
def own_network() -> Iterator[None]:
    with fresh_netns():
        yield


@pytest.fixture(scope="module")
def platform(own_network: None) -> Iterator[Platform]:
    running = Platform()
    try:
        running.start(timeout=180)
        yield running
    finally:
        running.destroy()


@pytest.fixture(scope="module")
def api(platform: Platform) -> Api:
    return platform.api()


@pytest.fixture(scope="module")
def starter(api: Api) -> str:
    operation = api.post("/images/starter")
    return str(operation.get("reference") or "slipway/starter:latest")


def fetch(address: str, port: int) -> str:
    try:
        with socket.create_connection((address, port), timeout=2) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return b"".join(iter(lambda: connection.recv(4096), b"")).decode()
    except OSError:
        return ""


def run(api: Api, container: str, script: str) -> str:
    body = {"command": ["sh", "-c", script]}
    answer: dict[str, Any] = api.post(f"/containers/{container}/exec", body)
    return str(answer["stdout"])


def test_by_name_by_literal_and_from_the_host(api: Api, starter: str) -> None:
    network = api.post("/networks?wait=true", {"name": "six", "subnet6": "fd00:0:0:1::/64"})
    assert network["ipv6"] is True
    port = free_port()
    common = {"image": starter, "network": "six", "start": True}
    server = {**common, "name": "web", "command": ["sh", "-c", SERVER], "ports": [f"{port}:80"]}
    api.post("/containers?wait=true", {**server, "ip6": "fd00:0:0:1::50"})
    api.post("/containers?wait=true", {**common, "name": "one", "command": ["sleep", "1000"]})
    for address in ("::1", "127.0.0.1", "fd00:0:0:1::1"):
        wait_until(lambda a=address: "hello" in fetch(a, port), what=address)  # type: ignore[misc]
    assert "hello" in run(api, "one", "wget -qO- http://[fd00:0:0:1::50]/")
    assert "fd00:0:0:1::50" in run(api, "one", "nslookup -type=aaaa web")
    assert "1 packets received" in run(api, "one", "ping -6 -c 1 -w 5 web")
    shown = {(p["host_ip"], p["host_port"]) for p in api.get("/containers/web")["ports"]}
    assert shown == {("0.0.0.0", port), ("::", port)}

    api.post("/networks?wait=true", {"name": "other", "ipv6": True})
    stranger = {**common, "name": "far", "network": "other", "command": ["sleep", "1000"]}
    api.post("/containers?wait=true", stranger)
    assert "hello" not in run(api, "far", "wget -T 1 -qO- http://[fd00:0:0:1::50]/ 2>&1")
    for name in ("web", "one", "far"):
        api.delete(f"/containers/{name}?wait=true", force=True)
    assert fetch("::1", port) == ""
    for name in ("six", "other"):
        api.delete(f"/networks/{name}?wait=true")


@pytest.mark.browser
def test_it_is_asked_for_and_shown_on_the_pages(page: Page, api: Api, starter: str) -> None:
    page.goto("/networks/")
    page.get_by_test_id("create-network").click()
    page.locator("input[name=name]").fill("lab")
    page.locator("input[name=ipv6]").check()
    page.locator("input[name=subnet6]").fill("nonsense")
    page.locator("dialog button[type=submit]").click()
    expect(page.locator("[data-field=subnet6]")).to_contain_text("is not an IPv6 subnet")
    page.locator("input[name=subnet6]").fill("fd00:0:0:2::/64")
    page.locator("dialog button[type=submit]").click()
    row = page.get_by_test_id("network-row").filter(has_text="lab")
    expect(row.get_by_test_id("subnet6")).to_have_text("fd00:0:0:2::/64", timeout=SOON)
    expect(row).to_contain_text("fd00:0:0:2::1")

    page.goto(f"/containers/new/?image={starter}")
    page.locator("input[name=name]").fill("box")
    page.locator("input[name=command]").fill("sleep 1000")
    page.locator("select[name=network]").select_option("lab")
    page.get_by_test_id("add-port").click()
    port = page.locator("[data-row=ports]").last
    port.locator("input[name=host_ip]").fill("::1")
    port.locator("input[name=host_port]").fill(str(free_port()))
    port.locator("input[name=container_port]").fill("80")
    page.locator("details[data-fold=network] > summary").first.click()
    page.locator('[data-option="ip6"]').fill("fd00:0:0:2::77")
    expect(page.get_by_test_id("run-line")).to_contain_text("--ip6 fd00:0:0:2::77")
    page.get_by_test_id("create").click()
    page.wait_for_url(re.compile(r"/containers/[0-9a-f]{64}/"))
    expect(page.get_by_test_id("address6")).to_have_text("fd00:0:0:2::77")
    expect(page.locator("port-link").first).to_contain_text("[::1]:")
    status = page.get_by_test_id("container-status")
    expect(status).to_have_attribute("data-status", "running", timeout=SOON)
    assert "fd00:0:0:2::77/64" in run(api, "box", "ip -6 addr show dev eth0")
    api.delete("/containers/box?wait=true", force=True)
    api.delete("/networks/lab?wait=true")
