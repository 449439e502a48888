"""What a platform at work answers is what its OpenAPI document says: the client of the tests holds each answer to it."""

from __future__ import annotations

import pytest

from tests.support.platform import Api
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def test_every_resource_answers_as_the_document_says(api: Api, starter: str) -> None:
    body = {
        "image": starter,
        "name": "answering",
        "command": ["sleep", "600"],
        "ports": ["127.0.0.1::80"],
        "volumes": ["answering:/data"],
        "limits": {"memory": "64m"},
        "restart": "on-failure:2",
        "health": {"command": "true", "interval": 1},
    }
    made = api.post("/containers", body)
    path = f"/containers/{made['id']}"
    try:
        wait_until(lambda: api.get(path)["health"]["status"] == "healthy")
        assert wait_until(lambda: api.get(f"{path}/stats"))["memory_limit"] == 64 << 20
        assert api.get(f"{path}/top")
        assert api.get(f"{path}/inspect")["spec"]["name"] == "answering"
        assert api.get(f"/images/{starter}")["id"] == made["image"]["id"]
        assert api.get("/volumes/answering")["containers"]
        for resource in (
            "containers", "hosts", "images", "volumes", "networks", "operations", "events", "tokens", "registries",
        ):  # fmt: skip
            assert isinstance(api.get(f"/{resource}"), list)
        assert api.post(f"{path}/stop")["status"] == "exited"
        assert api.post(f"{path}/wait")["exit_code"] is not None
        assert api.get(f"{path}/stats") is None
    finally:
        api.delete(path, force=True)
        api.delete("/volumes/answering")
