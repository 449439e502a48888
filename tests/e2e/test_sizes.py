"""What containers leave is measured on a whole platform: in volumes, and where it is lost with the container."""

from __future__ import annotations

from typing import Any

from tests.support.platform import Api
from tests.support.waiting import wait_until

MIB = 2**20


def _advice(api: Api, container: str) -> dict[str, Any]:
    row = api.get(f"/containers/{container}")
    return {advice["rule"]: advice for advice in row["advice"]}


def test_what_a_short_container_wrote_into_no_volume_is_warned_of(api: Api, starter: str) -> None:
    script = "mkdir -p /srv/data && dd if=/dev/urandom of=/srv/data/file bs=1M count=2"
    row = api.post(
        "/containers", {"image": starter, "command": ["sh", "-c", script], "start": True}
    )
    try:
        found = wait_until(
            lambda: _advice(api, row["id"]).get("data-outside-volume"), what="there is a warning"
        )
        assert found["evidence"]["bytes"] >= 2 * MIB
        assert found["evidence"]["paths"][0][0] == "/srv/data"
        assert api.get(f"/containers/{row['id']}")["status"] == "exited"
    finally:
        api.delete(f"/containers/{row['id']}", force=True)


def test_a_volume_s_size_is_known(api: Api, starter: str) -> None:
    script = "dd if=/dev/urandom of=/data/file bs=1M count=3"
    row = api.post(
        "/containers",
        {
            "image": starter,
            "command": ["sh", "-c", script],
            "volumes": ["slw-measured:/data"],
            "start": True,
        },
    )
    try:
        volume = wait_until(
            lambda: v if (v := api.get("/volumes/slw-measured"))["size"] else None,
            timeout=60,
            what="the volume is measured",
        )
        assert volume["size"] >= 3 * MIB
        assert volume["measured_at"]
    finally:
        api.delete(f"/containers/{row['id']}", force=True)
        api.delete("/volumes/slw-measured")
