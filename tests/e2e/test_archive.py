"""Files of containers as tar streams, through REST."""

from __future__ import annotations

import base64
import io
import json
import tarfile

import pytest

from tests.support.platform import Api
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
