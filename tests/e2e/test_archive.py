"""Files of containers as tar streams, through REST."""

from __future__ import annotations

import base64
import io
import json
import secrets
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.platform import Api, Platform
from tests.support.waiting import wait_until


@pytest.mark.parametrize("start", [True, False], ids=["running", "created"])
def test_files_come_out_with_what_they_are(api: Api, starter: str, start: bool) -> None:
    row = api.post("/containers", {"image": starter, "command": ["sleep", "1000"], "start": start})
    url = f"/containers/{row['id']}/archive"
    try:
        answer = api.http.get(url, params={"path": "/etc/passwd"})
        assert answer.status_code == 200, answer.text
        stat = json.loads(base64.b64decode(answer.headers["X-Slipway-Path-Stat"]))
        with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
            [member] = tar.getmembers()
            assert (member.name, member.size) == ("passwd", stat["size"])
            file = tar.extractfile(member)
            assert file is not None
            assert file.read().startswith(b"root:")
        told = api.http.head(url, params={"path": "/etc/passwd"})
        assert told.headers["X-Slipway-Path-Stat"] == answer.headers["X-Slipway-Path-Stat"]
        whole = api.http.get(url, params={"path": "/"})
        with tarfile.open(fileobj=io.BytesIO(whole.content)) as tar:
            assert "./etc/passwd" in tar.getnames()
        exported = api.http.get(f"/containers/{row['id']}/export")
        with tarfile.open(fileobj=io.BytesIO(exported.content)) as tar:
            assert "./etc/passwd" in tar.getnames()
            assert not any(name.startswith("./proc/") for name in tar.getnames())
        missing = api.http.get(url, params={"path": "/not/there"})
        assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
        assert api.http.head(url, params={"path": "/not/there"}).status_code == 404
        assert api.http.get(url, params={"path": ""}).status_code == 422
    finally:
        api.delete(f"/containers/{row['id']}", force=True)


@pytest.fixture
def container(api: Api, starter: str) -> Iterator[str]:
    """The URL of one that runs."""
    body = {"image": starter, "command": ["sleep", "1000"], "start": True}
    url = f"/containers/{api.post('/containers', body)['id']}"
    yield url
    api.delete(url, force=True)


def packed(files: dict[str, bytes], mode: str = "w", **values: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            for key, value in values.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def unpacked(api: Api, url: str, path: str) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    answer = api.http.get(f"{url}/archive", params={"path": path})
    assert answer.status_code == 200, answer.text
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
        files = {m.name: (m, tar.extractfile(m)) for m in tar}
        return {n: (m, f.read() if f else b"") for n, (m, f) in files.items()}


@pytest.mark.parametrize("start", [True, False], ids=["running", "created"])
def test_a_large_file_goes_in_and_comes_out(
    api: Api, starter: str, start: bool, platform: Platform
) -> None:
    row = api.post("/containers", {"image": starter, "command": ["sleep", "1000"], "start": start})
    url = f"/containers/{row['id']}"
    data = secrets.token_bytes(20_000_000)
    whole = packed({"large": data}, uid=33)

    def parts() -> Iterator[bytes]:
        for begin in range(0, len(whole), 100_000):
            yield whole[begin : begin + 100_000]

    try:
        before = {pid: peak(pid, reset=True) for pid in map(platform.pid, ("web", "watcher"))}
        for content in (whole, parts()):  # with its length, and in chunks
            answer = api.http.put(f"{url}/archive", params={"path": "/root"}, content=content)
            assert (answer.status_code, answer.json()) == (200, {"members": 1, "bytes": len(data)})
            member, found = unpacked(api, url, "/root/large")["large"]
            assert (member.uid, found == data) == (0, True)
        for pid, bytes_before in before.items():
            assert peak(pid) - bytes_before < 12 << 20
    finally:
        api.delete(url, force=True)


def peak(pid: int, *, reset: bool = False) -> int:
    """Bytes of memory that a process has had at most, since the latest reset: proc_pid_clear_refs(5)."""
    if reset:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    [line] = [x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmHWM" in x]
    return int(line.split()[1]) << 10


def test_streams_may_be_compressed_and_keep_ids(api: Api, container: str) -> None:
    put = f"{container}/archive"
    zipped = packed({"d/zipped": b"1"}, "w:gz", uid=33, gid=34)
    options = {"path": "/root", "copyUIDGID": "true"}
    assert api.http.put(put, params=options, content=zipped).status_code == 200
    member, data = unpacked(api, container, "/root/d/zipped")["zipped"]
    assert (member.uid, member.gid, data) == (33, 34, b"1")
    options = {"path": "/root", "noOverwriteDirNonDir": "1"}
    refused = api.http.put(put, params=options, content=packed({"d": b"file"}))
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert api.http.put(put, params={"path": "/root"}, content=packed({"d": b"f"})).is_success
    assert unpacked(api, container, "/root/d")["d"][1] == b"f"
    assert not api.http.put(put, params={"path": "/none"}, content=packed({"d": b"f"})).is_success
    events = [e for e in api.get("/events") if e["target_id"] in container]
    noted = [(e["type"], e["data"]["path"]) for e in events if "files" in e["type"]]
    assert noted.count(("container.files_written", "/root")) == 3
    assert noted.count(("container.files_read", "/root/d")) == 1
    assert not any(path == "/none" for _, path in noted)


def test_what_cannot_be_put_is_refused_with_what_stays(
    api: Api, platform: Platform, container: str
) -> None:
    good = packed({"f": b"x"})
    large = packed({"f": b"x" * 5_000_000})

    def refused(content: Any, path: str = "/root", url: str = container) -> tuple[int, str, Any]:
        answer = api.http.put(f"{url}/archive", params={"path": path}, content=content)
        told = answer.json()
        return answer.status_code, told["code"], told["extra"].get("written")

    for content in (good, large):
        assert refused(content, "/not/there") == (404, "not_found", None)
        assert refused(content, "/etc/passwd") == (422, "spec_invalid", None)
        assert refused(content, url="/containers/nobody") == (404, "not_found", None)
    assert refused(good, "") == (422, "spec_invalid", None)
    assert refused(b"") == (422, "archive_invalid", None)
    assert refused(b"no tar" * 1000) == (422, "archive_invalid", None)
    cut = packed({"first": b"1", "second": b"2" * 2000})[:2000]
    assert refused(cut) == (422, "archive_invalid", {"members": 1, "bytes": 1})
    assert refused(packed({"a": b"", "../b": b""})) == (
        422, "archive_invalid", {"members": 1, "bytes": 0}
    )  # fmt: skip
    bomb = b"\x1f\x8b" + secrets.token_bytes(1_000_000)
    assert refused(bomb)[:2] == (422, "archive_invalid")
    stranger = httpx.put(
        f"{platform.url}/api/v1{container}/archive", params={"path": "/root"}, content=large
    )
    assert stranger.status_code == 401
    assert set(unpacked(api, container, "/root")) == {"root", "root/a", "root/first"}


def test_an_upload_that_breaks_off_ends_in_order(
    api: Api, platform: Platform, starter: str
) -> None:
    """Half a request: what is whole stays, nothing half does, and the container can be started."""
    row = api.post("/containers", {"image": starter, "command": ["sleep", "1000"], "start": False})
    url = f"/containers/{row['id']}"
    whole = packed({"first": b"1" * 100_000, "second": b"2" * 100_000})
    try:
        with socket.create_connection(("127.0.0.1", platform.port)) as client:
            head = (
                f"PUT /api/v1{url}/archive?path=/root HTTP/1.1\r\nHost: 127.0.0.1:{platform.port}\r\n"
                f"Authorization: Bearer {api.token}\r\nContent-Length: {len(whole)}\r\n\r\n"
            )
            client.sendall(head.encode() + whole[:150_000])
            upper = platform.config.bundle(row["id"]) / "upper/root"
            wait_until((upper / "first").exists, what="the first file")
        wait_until(lambda: not list(upper.glob(".slipway-*")), what="the half file's removal")
        api.post(f"{url}/start")
        assert set(unpacked(api, url, "/root")) == {"root", "root/first"}
    finally:
        api.delete(url, force=True)


def test_changes_are_told(api: Api, starter: str) -> None:
    script = "rm /etc/passwd; echo 1 > /etc/new; exec sleep 1000"
    body = {"image": starter, "command": ["sh", "-c", script], "start": True}
    url = f"/containers/{api.post('/containers', body)['id']}"
    try:

        def told() -> dict[str, str] | None:
            found = {c["path"]: c["kind"] for c in api.http.get(f"{url}/changes").json()}
            return found if "/etc/new" in found else None

        found = wait_until(told, what="the change")
        assert found == {"/etc": "modified", "/etc/new": "added", "/etc/passwd": "deleted"}
        assert len(api.http.get(f"{url}/changes", params={"limit": 1}).json()) == 1
        assert api.http.get(f"{url}/changes", params={"limit": 0}).status_code == 422
    finally:
        api.delete(url, force=True)
