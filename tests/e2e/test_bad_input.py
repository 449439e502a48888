"""What is wrong gets one clear message that names the field, and leaves nothing half made."""

from __future__ import annotations

import io
import os
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.platform import Api, Platform, free_port
from tests.support.waiting import wait_until


def _traces(platform: Platform) -> dict[str, Any]:
    """Everything a half-made container would leave."""
    config = platform.config
    return {
        "links": sorted(n for n in os.listdir("/sys/class/net") if n.startswith(config.tag + "v")),
        "bundles": sorted(p.name for p in config.containers.glob("*")),
        "runs": sorted(p.name for p in (config.run / "containers").glob("*")),
        "mounts": str(platform.base) in Path("/proc/self/mounts").read_text(),
        "cgroups": sorted(
            str(p)
            for pattern in (f"{config.cgroup}/containers/*/", f"*/{config.cgroup}/containers/*/")
            for p in Path("/sys/fs/cgroup").glob(pattern)
        ),
    }


@pytest.fixture(scope="module")
def taken(api: Api, starter: str) -> Iterator[dict[str, Any]]:
    """A running container with a name and a port that are taken."""
    port = free_port()
    row = api.post(
        "/containers",
        {
            "image": starter,
            "name": "taken",
            "command": ["sleep", "600"],
            "ports": [f"{port}:80"],
            "start": True,
        },
    )
    yield {"port": port, "id": row["id"]}
    api.delete(f"/containers/{row['id']}", force=True)


_REQUESTS: list[tuple[str, dict[str, Any], int, str]] = [
    ("unknown image", {"image": "nowhere/nothing:1"}, 404, "image"),
    ("bad reference", {"image": "UPPER case!"}, 422, "image"),
    ("taken name", {"name": "taken"}, 409, "name"),
    ("bad name", {"name": "-no"}, 422, "name"),
    ("memory too small", {"limits": {"memory": "1k"}}, 422, "limits.memory"),
    ("memory not a size", {"limits": {"memory": "much"}}, 422, "limits.memory"),
    ("cpus below zero", {"limits": {"cpus": -1}}, 422, "limits.cpus"),
    ("bad port", {"ports": ["70000:80"]}, 422, "ports"),
    ("volume that escapes", {"volumes": ["../etc:/data"]}, 422, "volumes"),
    ("relative target", {"volumes": ["data:relative"]}, 422, "volumes"),
    ("unknown network", {"network": "nowhere"}, 404, "network"),
]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [pytest.param(body, status, field, id=name) for name, body, status, field in _REQUESTS],
)
def test_a_bad_request_names_its_field_and_leaves_nothing(
    platform: Platform,
    api: Api,
    starter: str,
    taken: dict[str, Any],
    body: dict[str, Any],
    status: int,
    field: str,
) -> None:
    before = _traces(platform)
    error = api.post(
        "/containers",
        {"image": starter, "command": ["true"], "start": True} | body,
        expect=status,
    )
    assert error["code"]
    assert error["message"].endswith(".")
    assert error["extra"]["field"].startswith(field)
    assert _traces(platform) == before


@pytest.mark.parametrize("reference", ["UPPER", "name:", "a//b", "name@sha256:short"])
def test_a_reference_that_is_none_is_refused_before_anything_is_pulled(
    api: Api, reference: str
) -> None:
    error = api.post("/images/pull", {"reference": reference}, expect=422)
    assert (error["code"], error["extra"]["field"]) == ("spec_invalid", "reference")


def test_a_taken_port_is_refused_at_once(api: Api, starter: str, taken: dict[str, Any]) -> None:
    error = api.post(
        "/containers",
        {"image": starter, "command": ["true"], "ports": [f"{taken['port']}:80"], "start": True},
        expect=409,
    )
    assert error["code"] == "port_in_use"
    assert str(taken["port"]) in error["message"]


def test_a_port_of_another_program_is_found(platform: Platform, api: Api, starter: str) -> None:
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        port = other.getsockname()[1]
        error = api.post(
            "/containers",
            {"image": starter, "command": ["true"], "ports": [f"{port}:80"], "start": True},
            expect=409,
        )
    assert error["code"] == "port_in_use"
    _remove_all_but(api, "taken")
    wait_until(lambda: not _traces(platform)["mounts"])


def test_a_command_that_does_not_exist_is_127_with_its_message(
    platform: Platform, api: Api, starter: str
) -> None:
    error = api.call(
        "POST",
        "/containers",
        json={"image": starter, "name": "typo", "command": ["/bin/nginks"], "start": True},
        params={"wait": "true"},
        expect=422,
    )
    assert error["code"] == "init_failed"
    assert error["extra"]["exit_code"] == 127
    assert "/bin/nginks" in error["message"]
    row = api.get("/containers/typo")
    assert (row["status"], row["exit_code"]) == ("exited", 127)
    api.delete("/containers/typo", force=True)


def test_a_corrupt_archive_is_refused_and_leaves_nothing(platform: Platform, api: Api) -> None:
    store = (platform.config.layers, platform.config.images, platform.config.blobs)

    def stored() -> list[list[str]]:
        return [sorted(p.name for p in directory.glob("*")) for directory in store]

    before = stored()
    for content in (b"not an archive", _truncated_tar(), _escaping_tar()):
        error = api.call(
            "POST",
            "/images/import",
            params={"wait": "true"},
            data={"reference": "bad:1"},
            files={"file": ("bad.tar", content)},
            expect=422,
        )
        assert (error["code"], error["extra"]["field"]) == ("archive_invalid", "archive")
    assert stored() == before
    assert not list(platform.config.tmp.glob("*"))
    assert not list(platform.config.spool.glob("*"))


def test_wrong_credentials_are_refused_by_every_door(platform: Platform, api: Api) -> None:
    for headers in ({}, {"Authorization": "Bearer slw_wrong"}):
        answer = httpx.get(f"{platform.url}/api/v1/containers", headers=headers)
        assert answer.status_code == 401
        assert set(answer.json()) >= {"code", "message", "extra"}


def _remove_all_but(api: Api, name: str) -> None:
    listed = api.get("/containers")
    for row in listed if isinstance(listed, list) else listed["items"]:
        if row["name"] != name:
            api.delete(f"/containers/{row['id']}", force=True)


def _tar(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _truncated_tar() -> bytes:
    return _tar(("big", b"x" * 100_000))[:50_000]


def _escaping_tar() -> bytes:
    return _tar(("../../outside", b"x"))
