"""Devices, pairs, hosts and file systems in memory, as `docker run` writes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from runtime.errors import SpecInvalid
from runtime.model.parse_mounts import parse_mount, parse_tmpfs
from runtime.model.parse_options import (
    parse_device,
    parse_device_values,
    parse_hosts,
    parse_hugetlb,
    parse_pairs,
)
from runtime.model.spec import Device, Mount

MIB = 2**20


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("/dev/fuse", Device("/dev/fuse", "/dev/fuse", "rwm")),
        ("/dev/fuse:r", Device("/dev/fuse", "/dev/fuse", "r")),
        ("/dev/sda:/dev/xvda", Device("/dev/sda", "/dev/xvda", "rwm")),
        ("/dev/sda:/dev/xvda:rw", Device("/dev/sda", "/dev/xvda", "rw")),
    ],
)
def test_devices(text: str, device: Device) -> None:
    assert parse_device(text) == device


def test_values_of_devices_come_as_lines_lists_and_objects() -> None:
    for values in ("/dev/sda:10m\n/dev/sdb:1k", ["/dev/sda:10m", "/dev/sdb:1k"],
                   {"/dev/sda": "10m", "/dev/sdb": 1024}):  # fmt: skip
        assert parse_device_values(values, "f", sizes=True) == {
            "/dev/sda": 10 * MIB,
            "/dev/sdb": 1024,
        }
    assert parse_device_values(["/dev/sda:300"], "f", sizes=False) == {"/dev/sda": 300}
    assert parse_hugetlb("2MB=64m", "f") == {"2MB": 64 * MIB}


def test_pairs_and_hosts() -> None:
    assert parse_pairs("# notes\na=1\nb = 2=3\n\n", "f") == {"a": "1", "b": "2=3"}
    assert parse_pairs(["only", "a= x"], "f", bare=True) == {"only": "", "a": " x"}
    assert parse_hosts(["db:10.0.0.5", "six=[fd00::1]", "up:host-gateway"]) == {
        "db": "10.0.0.5",
        "six": "fd00::1",
        "up": "host-gateway",
    }


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("/run", Mount("tmpfs", "/run")),
        ("/run:size=64m,mode=700,exec,uid=5,ro",
         Mount("tmpfs", "/run", read_only=True, tmpfs_size=64 * MIB, tmpfs_mode=0o700,
               tmpfs_options=("exec", "uid=5"))),
        ("/run:rw,size=0", Mount("tmpfs", "/run")),
    ],
)  # fmt: skip
def test_file_systems_in_memory(text: str, mount: Mount) -> None:
    assert parse_tmpfs(text) == mount


def test_submounts_of_a_bind() -> None:
    mount = parse_mount("type=bind,src=/srv,dst=/srv,readonly,bind-recursive=writable")
    assert (mount.recursive, mount.read_only) == ("writable", True)
    mount = parse_mount("type=bind,src=/srv,dst=/srv,bind-nonrecursive,consistency=cached")
    assert mount.recursive == "disabled"
    assert parse_mount("source=a,target=/a,volume-driver=local").source == "a"


@pytest.mark.parametrize(
    "refused",
    [
        lambda: parse_device("fuse", "x"),
        lambda: parse_device("/dev/a:/dev/b:x", "x"),
        lambda: parse_device_values(["/dev/sda"], "x", sizes=True),
        lambda: parse_device_values(["/dev/sda:1m"], "x", sizes=False),
        lambda: parse_pairs(["a"], "x"),
        lambda: parse_hosts(["db"], "x"),
        lambda: parse_tmpfs("run", "x"),
        lambda: parse_tmpfs("/run:lowerdir=/", "x"),
        lambda: parse_tmpfs("/run:mode=rwx", "x"),
        lambda: parse_mount("type=bind,src=/a,dst=/a,bind-recursive=often", "x"),
        lambda: parse_mount("source=a,target=/a,volume-driver=nfs", "x"),
    ],
)
def test_what_is_none_is_refused_with_its_field(refused: Callable[[], Any]) -> None:
    with pytest.raises(SpecInvalid) as caught:
        refused()
    assert caught.value.field == "x"
    assert caught.value.hint
