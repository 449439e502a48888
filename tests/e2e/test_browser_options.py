"""The options of a container as somebody fills them in, sees them again, and changes them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, WebSocketRoute, expect

from tests.support.browser import SOON
from tests.support.platform import Api

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def unfold(page: Page, key: str) -> None:
    page.locator(f"details[data-fold={key}] > summary").first.click()


def fill(page: Page, option: str, value: str | bool) -> None:
    field = page.locator(f'[data-option="{option}"]').first
    if isinstance(value, bool):
        field.set_checked(value)
    elif field.evaluate("field => field.tagName") == "SELECT":
        field.select_option(value)
    else:
        field.fill(value)


FILLED: dict[str, dict[str, str | bool]] = {
    "process": {"groups": "1001\n1002", "tty": True, "init": "false"},
    "storage": {"read_only_rootfs": True, "tmpfs": "/run:size=1m"},
    "memory": {"limits.memory_swap": "-1", "limits.oom_score_adj": "77", "shm_size": "2m"},
    "cpu": {"limits.cpu_shares": "512", "limits.cpuset_cpus": "0"},
    "ulimits": {"ulimits": "nofile=100:200"},
    "network": {"hostname": "box", "extra_hosts": "up=host-gateway", "dns_search": "lan"},
    "stop": {"stop_signal": "SIGINT", "stop_timeout": "3"},
    "privileges": {"cap_drop": "CHOWN\nFOWNER", "no_new_privileges": True},
    "profiles": {"masked_paths": "none"},
    "devices": {"sysctls": "net.core.somaxconn=77"},
    "namespaces": {"ipc": "shareable"},
    "labels": {"labels": "team=shop\ntier=web"},
    "logs": {"logs.max_size": "1m", "logs.non_blocking": True},
}


def test_every_section_reaches_the_container_and_its_page(
    page: Page, api: Api, starter: str
) -> None:
    page.goto(f"/containers/new/?image={starter}")
    assert page.locator("details[data-fold][open]").count() == 0
    page.locator("input[name=name]").fill("options")
    page.locator("input[name=command]").fill("sh -c 'sleep 600; true'")
    page.locator("input[name=memory]").fill("64m")
    page.get_by_test_id("add-mount").click()
    row = page.locator("[data-row=mounts]").last
    row.locator("input[name=mount_source]").fill("part")
    row.locator("input[name=mount_target]").fill("/part")
    row.locator("summary").click()
    row.locator("input[name=mount_nocopy]").check()
    unfold(page, "command")
    page.locator("input[name=working_dir]").fill("/tmp")
    page.locator("input[name=user]").fill("1001:1002")
    unfold(page, "env")
    page.get_by_test_id("add-env").click()
    variable = page.locator("[data-row=env]").last
    variable.locator("[name=env_name]").fill("GREETING")
    variable.locator("[name=env_value]").fill("hello world")
    page.locator("select[name=restart]").select_option("unless-stopped")
    for section, options in FILLED.items():
        unfold(page, section)
        for option, value in options.items():
            fill(page, option, value)
        unfold(page, section)
    line = page.get_by_test_id("run-line")
    for words in ("--memory-swap -1", "--ulimit nofile=100:200", "--add-host up:host-gateway",
                  "--cap-drop FOWNER", "--sysctl net.core.somaxconn=77", "--read-only", "-t",
                  "-v part:/part:nocopy", "--log-opt mode=non-blocking"):  # fmt: skip
        expect(line).to_contain_text(words)
    page.get_by_test_id("create").click()
    page.wait_for_url(re.compile(r"/containers/[0-9a-f]{64}/"))
    status = page.get_by_test_id("container-status")
    expect(status).to_have_attribute("data-status", "running", timeout=SOON)
    spec = api.get("/containers/options/inspect")["spec"]
    process = spec["process"]
    assert (process["cwd"], process["user"]) == ("/tmp", "1001:1002")
    assert "GREETING=hello world" in process["env"]
    assert spec["restart"]["name"] == "unless-stopped"
    assert process["groups"] == ["1001", "1002"]
    assert (spec["process"]["tty"], spec["process"]["init"]) == (True, False)
    assert (spec["limits"]["memory_swap"], spec["limits"]["cpuset_cpus"]) == (-1, "0")
    assert spec["security"]["masked_paths"] == []
    assert spec["labels"]["tier"] == "web"
    assert spec["mounts"][0]["nocopy"]
    for words in ("no limit", "only 0", "CHOWN, FOWNER", "this host", "lines are dropped",
                  "read-write, not filled from the image", "100, at most 200"):  # fmt: skip
        expect(page.locator("#main")).to_contain_text(words)

    # A copy begins with all of it.
    identity = page.url.rstrip("/").rpartition("/")[2]
    page.goto(f"/containers/new/?from={identity}")
    for options in FILLED.values():
        for option, value in options.items():
            field = page.locator(f'[data-option="{option}"]').first
            if isinstance(value, bool):
                expect(field).to_be_checked(checked=value)
            elif option == "ipc":
                expect(field).to_have_value("")  # another word for the default
            elif option == "tmpfs":
                expect(page.locator("input[name=mount_tmpfs_size]").last).to_have_value("1m")
            else:
                expect(field).to_have_value(value)
    api.delete(f"/containers/{identity}", force=True)


def test_an_error_opens_the_section_of_its_field(page: Page, starter: str) -> None:
    page.goto(f"/containers/new/?image={starter}")
    for option, bad in (
        ("sysctls", "kernel.panic=1"), ("devices", "/dev/no-such-thing"), ("ulimits", "files=1"),
        ("limits.device_read_bps", "/dev/null:1m"), ("apparmor", "no-such-profile"),
        ("volumes_from", "nobody"), ("logs.max_size", "1"), ("stop_signal", "SIGNOTHING"),
    ):  # fmt: skip
        section = page.locator("details[data-fold]").filter(
            has=page.locator(f'[data-option="{option}"]')
        )
        section.evaluate("section => { section.open = true; }")
        fill(page, option, bad)
        section.evaluate("section => { section.open = false; }")
        page.get_by_test_id("create").click()
        error = section.locator(".field-error")
        expect(error).to_be_visible(timeout=SOON)
        expect(page.locator(f'[data-option="{option}"]')).to_be_focused()
        expect(page.locator(f'[data-option="{option}"]')).to_have_value(bad)
        fill(page, option, "")


def test_limits_change_under_a_running_container_or_not_at_all(
    page: Page, api: Api, starter: str
) -> None:
    made = api.post(
        "/containers",
        {"image": starter, "name": "limited", "command": "sleep 600", "start": True,
         "limits": {"memory": "64m", "pids": 50}, "restart": "on-failure:3"},
    )  # fmt: skip
    page.goto(f"/containers/{made['id']}/")
    page.get_by_role("button", name="Change", exact=True).click()
    dialog = page.locator("dialog#dialog")
    dialog.locator("input[name='limits.memory']").fill("96m")
    dialog.locator("details[data-fold=cpu] > summary").click()
    dialog.locator("input[name='limits.cpu_shares']").fill("300")
    dialog.locator("input[name='limits.cpuset_mems']").fill("63")
    dialog.locator("select[name='restart']").select_option("always")
    dialog.get_by_test_id("confirm").click()
    expect(page.get_by_test_id("operation-error")).to_be_visible(timeout=SOON)
    kept = api.get("/containers/limited")
    assert (kept["limits"]["memory"], kept["limits"]["cpu_shares"]) == (64 << 20, None)
    assert kept["restart"] == {"name": "on-failure", "max_retries": 3}

    page.get_by_role("button", name="Change", exact=True).click()
    dialog.locator("input[name='limits.memory']").fill("96m")
    dialog.locator("details[data-fold=cpu] > summary").click()
    dialog.locator("input[name='limits.cpu_shares']").fill("300")
    dialog.locator("details[data-fold=ulimits] > summary").click()
    dialog.locator("textarea[name=ulimits]").fill("core=0\nnofile=64:128")
    dialog.locator("details[data-fold=memory] > summary").click()
    expect(dialog.locator("input[name=shm_size]")).to_have_value("64m")
    dialog.locator("input[name=shm_size]").fill("2m")
    dialog.locator("select[name='restart']").select_option("always")
    dialog.get_by_test_id("confirm").click()
    expect(page.locator("#container-summary")).to_contain_text("300 (usual: 1024)", timeout=SOON)
    changed = api.get("/containers/limited")
    assert (changed["limits"]["memory"], changed["limits"]["pids"]) == (96 << 20, 50)
    assert changed["restart"]["name"] == "always"
    expect(page.locator("#container-summary")).to_contain_text("64, at most 128")
    for command, shown in (("ulimit -n", "64"), ("df -k /dev/shm | tail -1", "2048")):
        ran = api.post("/containers/limited/exec", {"command": ["sh", "-c", command]})
        assert shown in ran["stdout"].split()
    assert changed["started_at"] == made["started_at"]
    api.delete(f"/containers/{made['id']}", force=True)


def test_what_it_used_and_said_is_seen_with_its_pressure_and_by_time(
    page: Page, api: Api, starter: str
) -> None:
    made = api.post(
        "/containers",
        {"image": starter, "name": "watched", "start": True, "limits": {"cpus": 0.05, "pids": 20},
         "command": ["sh", "-c", "echo first; echo bad >&2; while :; do :; done"], "init": False},
    )  # fmt: skip
    page.route_web_socket("**/ws/**", _with_pressure)
    page.goto(f"/containers/{made['id']}/?tab=stats")
    cpu, pids, pressure = (
        page.locator(f"stat-chart[data-metric={name}]") for name in ("cpu", "pids", "pressure")
    )
    expect(cpu.get_by_test_id("note")).to_contain_text(
        re.compile(r"Held back in [\d,]+ of [\d,]+ periods, for [\d.]+ s in all"), timeout=SOON
    )
    expect(pids.get_by_test_id("value")).to_have_text("1 of 20")
    expect(pressure.get_by_test_id("value")).to_have_text("41.5 % of the time")
    expect(pressure.get_by_test_id("note")).to_have_text("Nothing ran for want of memory: 3.0 %")

    page.goto(f"/containers/{made['id']}/?tab=logs")
    lines, time = page.locator(".log-line .log-text"), page.get_by_test_id("log-time")
    expect(lines).to_have_count(2, timeout=SOON)
    time.select_option("start")
    expect(lines).to_have_count(2)
    page.get_by_test_id("log-stderr").uncheck()
    expect(lines).to_have_text(["first"])
    download = page.get_by_label("Download the log")
    expect(download).to_have_attribute("href", re.compile(r"&since=\d+(\.\d+)?&stderr=false$"))
    time.select_option("between")
    page.get_by_test_id("log-from").fill("2020-01-01T00:00:00")
    page.get_by_test_id("log-to").fill("2020-01-02T00:00:00")
    expect(page.locator(".log-empty")).to_have_text("No output in this time.")
    expect(page.locator("[data-log-count]")).to_contain_text("0 lines · the end")
    time.select_option("")
    expect(lines).to_have_text(["first"])
    api.delete(f"/containers/{made['id']}", force=True)


def _with_pressure(page: WebSocketRoute) -> None:
    """As a host with cgroup v2 measures it."""
    server = page.connect_to_server()

    def down(message: str | bytes) -> None:
        parsed = json.loads(message)
        if isinstance(parsed.get("data"), dict) and "cpu_periods" in parsed["data"]:
            parsed["data"]["pressure"] = {
                "cpu.some.avg10": 41.5, "memory.some.avg10": 4.0, "memory.full.avg10": 3.0,
            }  # fmt: skip
        page.send(json.dumps(parsed))

    server.on_message(down)


def test_a_file_fills_a_field(page: Page, starter: str, tmp_path: Path) -> None:
    (tmp_path / "site.env").write_text("# site\nA=1\nB=2\n")
    page.goto(f"/containers/new/?image={starter}")
    unfold(page, "env")
    with page.expect_file_chooser() as chooser:
        page.locator("[data-fold=env] [data-fill]").click()
    chooser.value.set_files(tmp_path / "site.env")
    expect(page.locator('[data-option="env_file"]')).to_have_value("# site\nA=1\nB=2\n")
    expect(page.locator("[data-fold=env] [data-fold-set]")).to_have_text("A=1, B=2")


LINE = """docker run -d --name pasted -p 127.0.0.1:18181:80 -p 90 -p 5000:5000/sctp -p 18182-18183:82-83/udp -v data:/data:ro \\
  -v /srv:/srv:rslave --tmpfs /run:size=1m,exec -e 'GREETING=hello world' -m 64m --cpus 0.5 \\
  --restart on-failure:2 --add-host up:host-gateway --cap-drop ALL --ulimit nofile=10:20 -it \\
  --label team=shop --log-opt max-size=1m --read-only --stop-signal SIGINT --env-file site.env \\
  --entrypoint '' --link-local-ip 169.254.7.7 slipway/starter:latest sh -c 'sleep 600; true'"""


def test_a_line_that_is_pasted_fills_the_form(page: Page, starter: str) -> None:
    page.goto("/containers/new/")
    page.locator(".paste textarea").evaluate("field => { field.closest('details').open = true; }")
    page.locator("input[name=name]").fill("before")
    page.locator(".paste textarea").fill("docker run --gpus all nginx")
    page.get_by_test_id("paste").click()
    expect(page.locator("[data-field=line] .field-error")).to_contain_text("--gpus")
    expect(page.locator("input[name=name]")).to_have_value("before")

    page.locator(".paste textarea").fill(LINE)
    page.get_by_test_id("paste").click()
    expect(page.locator("[data-pasted]")).to_contain_text("--env-file site.env")
    expect(page.locator("input[name=name]")).to_have_value("pasted")
    expect(page.locator("input[name=command]")).to_have_value("sh -c 'sleep 600; true'")
    line = page.get_by_test_id("run-line")
    shown = line.inner_text()
    for words in ("-p 127.0.0.1:18181:80", "-p 18182-18183:82-83/udp", "-p 90 ", "-p 5000:5000/sctp",
                  "--entrypoint ''", "--link-local-ip 169.254.7.7", "-v data:/data:ro",
                  "-v /srv:/srv:rslave", "--tmpfs /run:size=1m,exec", "-e 'GREETING=hello world'",
                  "--restart on-failure:2", "--add-host up:host-gateway", "--label team=shop"):  # fmt: skip
        assert words in shown
    # What the form says it would run fills another form in the same way.
    page.locator(".paste textarea").fill(shown)
    page.get_by_test_id("paste").click()
    expect(page.locator("[data-pasted]")).to_have_text("Filled in.")
    assert line.inner_text() == shown
