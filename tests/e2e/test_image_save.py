"""An image taken out over REST and brought in again."""

from __future__ import annotations

import io
import json
import tarfile

from tests.support.platform import Api


def test_what_is_saved_is_imported_as_it_was(api: Api, starter: str) -> None:
    answer = api.http.get(f"/images/{starter}/save")
    assert (
        answer.headers["content-disposition"] == 'attachment; filename="slipway_starter_latest.tar"'
    )
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        assert json.loads(manifest.read())[0]["RepoTags"] == ["slipway/starter:latest"]
    again = api.http.post(
        "/images/import", params={"wait": "true"}, files={"archive": ("saved.tar", answer.content)}
    ).json()
    assert "docker.io/slipway/starter:latest" in again["references"]
    box = api.post(
        "/containers", {"image": again["id"], "name": "loaded", "command": ["sleep", "600"]}
    )
    told = api.post(f"/containers/{box['id']}/exec", {"command": ["echo", "hello"]})
    assert told["stdout"] == "hello\n"
    [event] = [e for e in api.get("/events?type=image.saved") if e["target_name"]]
    assert event["user"] == "admin"
    api.delete(f"/containers/{box['id']}", force=True)
