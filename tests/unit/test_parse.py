"""Text as people write it becomes values, or an error that names the field and the way out."""

from __future__ import annotations

import signal

import pytest

from runtime.errors import SpecInvalid
from runtime.model.parse import (
    parse_bytes,
    parse_cpuset,
    parse_duration,
    parse_env,
    parse_restart,
    parse_signal,
    parse_ulimit,
)
from runtime.model.parse_mounts import parse_mount, parse_volume_spec
from runtime.model.parse_ports import parse_port_spec, parse_ports
from runtime.model.spec import Mount, PortMapping, Restart, Ulimit


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512", 512),
        ("512b", 512),
        ("64k", 65536),
        ("512m", 512 * 2**20),
        ("512MB", 512 * 2**20),
        ("2GiB", 2 * 2**30),
        ("1.5g", 3 * 2**29),
        (" 1 t ", 2**40),
        ("-1", -1),
        (123, 123),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "m", "12x", "1,5g", "1e3", "∞", "٣m", "9999999999p", True])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        parse_bytes(text, "limits.memory")
    assert caught.value.field == "limits.memory"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1m30s", 90), ("500ms", 0.5), ("1.5h", 5400), (0, 0), (2.5, 2.5)],
)
def test_durations(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "1x", "-5", "s", "1m 30s", "nan", float("inf"), -1])
def test_what_is_no_duration_is_refused(text: str | float) -> None:
    with pytest.raises(SpecInvalid):
        parse_duration(text)


def test_signals() -> None:
    assert parse_signal("SIGTERM") == parse_signal("term") == parse_signal("15") == signal.SIGTERM
    assert parse_signal("SIGRTMIN+3") == signal.SIGRTMIN + 3
    for text in ("SIGFOO", "0", "65", "", "SIGTERM+1", "RTMIN+99"):
        with pytest.raises(SpecInvalid):
            parse_signal(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8080:80", [PortMapping(80, 8080)]),
        ("53:53/udp", [PortMapping(53, 53, "udp")]),
        ("127.0.0.1:8080:80", [PortMapping(80, 8080, host_ip="127.0.0.1")]),
        ("[::1]:8080:80", [PortMapping(80, 8080, host_ip="::1")]),
        ("80", [PortMapping(80, 0)]),
        ("127.0.0.1::80", [PortMapping(80, 0, host_ip="127.0.0.1")]),
        ("8000-8001:80-81", [PortMapping(80, 8000), PortMapping(81, 8001)]),
    ],
)
def test_port_mappings(text: str, expected: list[PortMapping]) -> None:
    assert parse_port_spec(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "80:", "a:b", "0:80", "80:65536", "8000-8002:80-81", "81-80:1-2", "80/icmp",
        "1.2.3:80:80", "1:2:3:4", "[::1:80", "[::1]80", "80:80/",
    ],
)  # fmt: skip
def test_what_is_no_port_mapping_is_refused(text: str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        parse_ports([text])
    assert caught.value.field == "ports[0]"


def test_ports_take_a_default_address() -> None:
    mapping = parse_ports("80:80", host_ip="127.0.0.1")[0]
    assert mapping.host_ip == "127.0.0.1"


def test_volumes() -> None:
    assert parse_volume_spec("data:/var/lib:ro") == Mount(
        "volume", "/var/lib", "data", read_only=True
    )
    assert parse_volume_spec("/srv:/srv/") == Mount("bind", "/srv", "/srv")
    assert parse_volume_spec("/data") == Mount("volume", "/data", "", anonymous=True)
    assert parse_volume_spec("d:/x:nocopy,rslave").propagation == "rslave"


@pytest.mark.parametrize(
    "text",
    ["", "a", "a:b", "./x:/y", "~/x:/y", "a:/b:what", "a:/b:ro:x", ":/b", "a b:/c", "../e:/f"],
)
def test_what_is_no_volume_is_refused(text: str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        parse_volume_spec(text, "volumes[2]")
    assert caught.value.field == "volumes[2]"


def test_mounts() -> None:
    assert parse_mount("type=bind,src=/a,dst=/b,readonly") == Mount(
        "bind", "/b", "/a", read_only=True
    )
    assert parse_mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700") == Mount(
        "tmpfs", "/t", tmpfs_size=2**20, tmpfs_mode=0o700
    )
    for text in ("type=nfs,target=/x", "target=x", "type=bind", "foo=1,target=/x"):
        with pytest.raises(SpecInvalid):
            parse_mount(text)


def test_restart_policies() -> None:
    assert parse_restart("on-failure:3") == Restart("on-failure", 3)
    assert parse_restart("always") == Restart("always")
    for text in ("", "never", "always:3", "on-failure:", "on-failure:x"):
        with pytest.raises(SpecInvalid):
            parse_restart(text)


def test_ulimits() -> None:
    assert parse_ulimit("nofile=1024:2048") == Ulimit("nofile", 1024, 2048)
    assert parse_ulimit("core=-1") == Ulimit("core", -1, -1)
    for text in ("nofile", "nofile=", "files=1", "nofile=1:2:3"):
        with pytest.raises(SpecInvalid):
            parse_ulimit(text)


def test_environment_from_mapping_list_and_lines() -> None:
    assert parse_env({"A": 1}) == ("A=1",)
    assert parse_env(["A=1", "B=x=y", "A=2"]) == ("A=2", "B=x=y")
    assert parse_env("A=1\n\n# note\n B=2 ") == ("A=1", "B=2")
    for line in ("A", "=1"):
        with pytest.raises(SpecInvalid) as caught:
            parse_env([line])
        assert caught.value.field == "env[0]"


def test_cpusets() -> None:
    assert parse_cpuset("0-2,4") == {0, 1, 2, 4}
    for text in ("", "2-1", "a", "1,,2"):
        with pytest.raises(SpecInvalid):
            parse_cpuset(text)
