"""The keys that end an attachment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import SpecInvalid
from webui.live.detach_keys import DetachKeys, parse_detach_keys


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", b"\x10\x11"),
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("ctrl-a,d", b"\x01d"),
        ("CTRL-A", b"\x01"),
        ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x00\x1b\x1c\x1d\x1e\x1f"),
        ("DEL", b"\x7f"),
        ("~,.", b"~."),
    ],
)
def test_keys_are_written_as_docker_s(text: str, keys: bytes) -> None:
    assert parse_detach_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-1", "ctrl-ab", "ab", "a,,b", ",", "é", "ctrl+p"])
def test_what_is_no_key_is_refused_with_its_name(text: str) -> None:
    with pytest.raises(SpecInvalid, match="is not a key") as caught:
        parse_detach_keys(text)
    assert caught.value.field == "detach_keys"
    assert "ctrl-p,ctrl-q" in caught.value.hint


def test_what_comes_before_the_keys_goes_on_and_nothing_after() -> None:
    assert DetachKeys(b"\x10\x11").feed(b"ls\n\x10\x11more") == (b"ls\n", True)


def test_keys_may_come_one_by_one_and_a_beginning_is_held_back() -> None:
    keys = DetachKeys(b"\x10\x11")
    assert keys.feed(b"\x10") == (b"", False)
    assert keys.feed(b"x") == (b"\x10x", False)
    assert keys.feed(b"\x10") == (b"", False)
    assert keys.feed(b"\x10") == (b"\x10", False)
    assert keys.feed(b"\x11") == (b"", True)


@given(st.lists(st.binary(max_size=6)), st.binary(min_size=1, max_size=3))
def test_whatever_is_no_such_keys_arrives_as_it_was(parts: list[bytes], keys: bytes) -> None:
    filtering, passed, whole = DetachKeys(keys), b"", b"".join(parts)
    found = whole.find(keys)
    for part in parts:
        more, detached = filtering.feed(part)
        passed += more
        if detached:
            assert (passed, found >= 0) == (whole[:found], True)
            return
    assert found == -1
    assert whole.startswith(passed)
    assert len(whole) - len(passed) < len(keys)
