"""User namespaces in a specification and in the settings."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.errors import SpecInvalid
from runtime.model.spec import Mount, Namespaces, Security
from runtime.model.validate import validate_spec
from runtime.model.validate_userns import needs_host
from runtime.store.paths import DEFAULT_IDS, Config
from tests.support.specs import container

PRIVATE = Security(userns="private")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"security": Security(userns="private", privileged=True)}, "privileged"),
        ({"security": PRIVATE, "namespaces": Namespaces(network="host")}, "network=host"),
        ({"security": PRIVATE, "namespaces": Namespaces(pid="host")}, "pid=host"),
        ({"security": PRIVATE, "namespaces": Namespaces(ipc="host")}, "ipc=host"),
        (
            {
                "security": PRIVATE,
                "mounts": (Mount("bind", "/a", "/srv", propagation="rshared"),),
            },
            "mounts[0].propagation=rshared",
        ),
    ],
)
def test_one_of_its_own_and_a_part_of_the_host_exclude_each_other(
    changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(SpecInvalid) as caught:
        validate_spec(container(**changes))
    assert caught.value.field == "security.userns"
    assert named in caught.value.message
    assert caught.value.hint


def test_a_mode_that_is_none_is_refused() -> None:
    with pytest.raises(SpecInvalid, match="no user namespace"):
        validate_spec(container(security=Security(userns="mine")))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["SYS_TIME", "cap_sys_nice", "ALL", "MKNOD"])
def test_capabilities_of_the_host_need_its_namespace(name: str) -> None:
    assert needs_host(container(security=Security(cap_add=(name,))))


@pytest.mark.parametrize("name", ["NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE", "NET_BIND_SERVICE"])
def test_capabilities_that_a_namespace_has_do_not(name: str) -> None:
    assert not needs_host(container(security=Security(cap_add=(name,))))


@pytest.mark.parametrize(
    ("text", "ids"),
    [("", DEFAULT_IDS), ("off", None), ("100000:65536", (100000, 65536))],
)
def test_the_range_of_ids_is_a_setting(text: str, ids: tuple[int, int] | None) -> None:
    assert Config.from_env({"SLIPWAY_USERNS": text}).ids == ids


@pytest.mark.parametrize(
    "text", ["x", "1:2", "0:65536", "100000", "100000:65535", "4294900000:70000", "1e5:65536"]
)
def test_other_ranges_are_refused(text: str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        Config.from_env({"SLIPWAY_USERNS": text})
    assert caught.value.field == "SLIPWAY_USERNS"
