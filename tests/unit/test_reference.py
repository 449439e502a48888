"""What people write for an image, and what it means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import SpecInvalid
from runtime.model.reference import Reference


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("nginx", "docker.io/library/nginx:latest", "nginx:latest"),
        ("nginx:1.27", "docker.io/library/nginx:1.27", "nginx:1.27"),
        ("owner/app", "docker.io/owner/app:latest", "owner/app:latest"),
        ("docker.io/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
        ("localhost/app:2", "localhost/app:2", "localhost/app:2"),
        ("127.0.0.1:5000/a/b:t", "127.0.0.1:5000/a/b:t", "127.0.0.1:5000/a/b:t"),
        ("ghcr.io/o/a@sha256:" + "a" * 64, "ghcr.io/o/a@sha256:" + "a" * 64, None),
    ],
)
def test_defaults_are_dockers(text: str, full: str, familiar: str | None) -> None:
    reference = Reference.parse(text)
    assert reference.full == full
    if familiar:
        assert reference.familiar == familiar


@pytest.mark.parametrize(
    "text",
    [
        "",
        "UPPER case!",
        "Nginx",
        "a//b",
        "nginx:",
        "nginx:a b",
        "a@sha256:12",
        "-a",
        "../etc",
        "a:b:c",
    ],
)
def test_nonsense_is_refused_with_a_way_out(text: str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        Reference.parse(text)
    assert caught.value.field == "reference"
    assert caught.value.hint


_component = st.from_regex(r"[a-z0-9]+([._-][a-z0-9]+)?", fullmatch=True)


@given(
    registry=st.sampled_from(["docker.io", "ghcr.io", "localhost:5000", "r.example.com"]),
    path=st.lists(_component, min_size=2, max_size=4),
    tag=st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True),
)
def test_the_full_form_means_the_same(registry: str, path: list[str], tag: str) -> None:
    one = Reference.parse(f"{registry}/{'/'.join(path)}:{tag}")
    assert Reference.parse(one.full) == one
    assert Reference.parse(one.familiar) == one


@given(st.text(max_size=60))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        assert Reference.parse(Reference.parse(text).full).full
    except SpecInvalid:
        pass
