"""The words that pages use for sizes, ends and times."""

from __future__ import annotations

from typing import Any

import pytest

from webui.core.templatetags import ui


def row(**changes: Any) -> dict[str, Any]:
    return {
        "status": "exited",
        "exit_code": 0,
        "exit_reason": "exited",
        "oom_killed": False,
        "started_at": "2026-11-23T10:00:00Z",
        "finished_at": "2026-11-23T10:00:03Z",
        **changes,
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (152 * 1024**2, "152 MiB"),
        (2 * 1024**3, "2 GiB"),
    ],
)
def test_sizes_are_binary_with_about_three_digits(value: int | None, text: str) -> None:
    assert ui.size(value) == text


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({}, ""),
        ({"cpus": 1.0}, "1 core"),
        ({"cpus": 0.5}, "0.5 cores"),
        ({"cpus": None, "cpu_quota": 150_000}, "1.5 cores"),
        ({"cpu_quota": 20_000, "cpu_period": 50_000}, "0.4 cores"),
        ({"cpu_quota": -1, "cpu_period": 50_000}, ""),
    ],
)
def test_a_limit_of_cpu_is_told_however_it_was_said(limits: dict[str, Any], text: str) -> None:
    assert ui.cores(limits) == text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"exit_code": 137}, "exit 137 (SIGKILL) after 3 s"),
        ({"exit_code": 1}, "exit 1 after 3 s"),
        ({"exit_code": 0}, "exit 0 after 3 s"),
        ({"exit_code": 137, "oom_killed": True}, "OOM-killed after 3 s (exit 137)"),
        ({"exit_reason": "oom_killed", "exit_code": 137}, "OOM-killed after 3 s (exit 137)"),
        ({"exit_reason": "stopped"}, "stopped after 3 s"),
        ({"exit_reason": "stopped", "exit_code": 143}, "exit 143 (SIGTERM) after 3 s"),
        ({"exit_reason": "shim_lost", "exit_code": None}, "exit code unknown: its monitor died"),
        ({"exit_reason": "reboot", "exit_code": None}, "the host restarted"),
        ({"exit_reason": "start_failed", "exit_code": 127}, "did not start (exit 127)"),
        ({"exit_code": 1, "started_at": None}, "exit 1"),
        ({"exit_code": 200}, "exit 200 after 3 s"),
        ({"status": "running", "exit_code": 1}, ""),
        ({"status": "created", "exit_code": None}, ""),
    ],
)
def test_an_end_is_told_with_its_cause(changes: dict[str, Any], text: str) -> None:
    assert ui.exit_text(row(**changes)) == text


@pytest.mark.parametrize(
    ("changes", "bad"),
    [
        ({}, False),
        ({"exit_code": 1}, True),
        ({"exit_code": 143, "exit_reason": "stopped"}, False),
        ({"exit_code": 137, "oom_killed": True}, True),
        ({"status": "running", "exit_code": 1}, False),
    ],
)
def test_only_an_end_that_nobody_asked_for_is_bad(changes: dict[str, Any], bad: bool) -> None:
    assert ui.ended_badly(row(**changes)) is bad


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.25, "250 ms"),
        (3, "3 s"),
        (119, "119 s"),
        (300, "5 min"),
        (7200, "2 h"),
        (400_000, "5 d"),
        (63_000_000, "729 d"),
        (95_000_000, "3 y"),
    ],
)
def test_a_span_has_one_unit(seconds: float, text: str) -> None:
    assert ui.span(seconds) == text


def test_a_command_line_keeps_its_words_apart() -> None:
    assert ui.command_line(["sh", "-c", "a; b"]) == "sh -c 'a; b'"


def test_a_port_names_its_address_only_when_it_is_not_every_one() -> None:
    port = {"host_ip": "0.0.0.0", "host_port": 8080, "container_port": 80, "protocol": "tcp"}
    assert ui.port_text(port) == "8080→80/tcp"
    assert ui.port_text({**port, "host_ip": "127.0.0.1"}) == "127.0.0.1:8080→80/tcp"


@pytest.mark.parametrize(
    ("item", "secret"),
    [
        ("PATH=/bin", False),
        ("POSTGRES_PASSWORD=x", True),
        ("API_TOKEN=x", True),
        ("POSTGRES_PASSWORD=", False),
    ],
)
def test_values_that_look_like_secrets_are_masked(item: str, secret: bool) -> None:
    assert ui.env_pair(item)[2] is secret


def test_a_limit_is_offered_as_people_type_it() -> None:
    assert [ui.size_input(value) for value in (1024**3, 512 * 1024**2, 1000)] == [
        "1g",
        "512m",
        "1000",
    ]


def test_a_moment_is_exact_for_programs_and_readable_without_script() -> None:
    html = ui.ago("2026-11-23T10:00:00+00:00")
    assert 'datetime="2026-11-23T10:00:00Z"' in html
    assert "2026-11-23 10:00 UTC" in html
    assert ui.ago(None) == "–"
