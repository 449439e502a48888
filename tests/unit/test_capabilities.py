"""Capability names and Docker's rules for adding and dropping."""

from __future__ import annotations

import pytest

from runtime.errors import SpecInvalid
from runtime.kernel import capabilities as caps

DEFAULT = caps.mask(caps.DEFAULT)


def test_numbers_are_the_kernel_s() -> None:
    wanted = {"CHOWN": 0, "NET_ADMIN": 12, "SYS_ADMIN": 21, "SYSLOG": 34, "CHECKPOINT_RESTORE": 40}
    assert {n: caps.number(n) for n in wanted} == wanted


@pytest.mark.parametrize("name", ["NET_ADMIN", "net_admin", "CAP_NET_ADMIN", "cap_net_admin"])
def test_names_are_taken_in_every_spelling(name: str) -> None:
    assert caps.number(name) == 12


def test_an_unknown_name_is_refused_with_its_field() -> None:
    with pytest.raises(SpecInvalid) as caught:
        caps.combine(drop=["FLY"])
    assert caught.value.field == "security.cap_drop"


def test_the_default_is_docker_s() -> None:
    assert len(caps.DEFAULT) == 14
    assert caps.combine() == DEFAULT
    assert not DEFAULT & caps.mask(["SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "SYS_MODULE"])


def test_adding_and_dropping() -> None:
    assert caps.combine(add=["NET_ADMIN"]) == DEFAULT | 1 << 12
    assert caps.combine(drop=["CHOWN"]) == DEFAULT & ~1
    assert caps.combine(add=["NET_ADMIN"], drop=["CHOWN"]) == (DEFAULT | 1 << 12) & ~1


def test_all() -> None:
    assert caps.combine(add=["ALL"]) == caps.ALL
    assert caps.combine(drop=["all"]) == 0
    assert caps.combine(add=["CHOWN"], drop=["ALL"]) == 1
    assert caps.combine(add=["ALL"], drop=["SYS_ADMIN"]) == caps.ALL & ~(1 << 21)
    assert caps.combine(privileged=True, drop=["ALL"]) == caps.ALL


def test_what_this_process_may_ever_have_is_known() -> None:
    assert 0 <= caps.bounding() <= (1 << 64) - 1
