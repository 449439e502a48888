"""Files of containers as tar streams, through REST."""

from __future__ import annotations

import base64
import io
import json
import tarfile

import pytest

from tests.support.platform import Api


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
        missing = api.http.get(url, params={"path": "/not/there"})
        assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
        assert api.http.head(url, params={"path": "/not/there"}).status_code == 404
        assert api.http.get(url, params={"path": ""}).status_code == 422
    finally:
        api.delete(f"/containers/{row['id']}", force=True)
