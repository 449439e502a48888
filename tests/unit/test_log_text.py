"""Lines that come in parts are one line of text again, and the streams stay apart."""

from __future__ import annotations

from typing import Any

from webui.api.log_text import HELD, Joined


def line(text: str, stream: str = "stdout", *, partial: bool = False) -> dict[str, Any]:
    return {"time": "T", "stream": stream, "text": text} | ({"partial": True} if partial else {})


def told(*lines: dict[str, Any], timestamps: bool = False, follow: bool = False) -> str:
    joined = Joined(timestamps=timestamps, follow=follow)
    return "".join(map(joined.add, lines)) + joined.end()


def test_parts_are_joined_under_one_time() -> None:
    parts = (line("a", partial=True), line("b", partial=True), line("c"), line("d"))
    assert told(*parts) == "abc\nd\n"
    assert told(*parts, timestamps=True) == "T abc\nT d\n"


def test_the_other_stream_waits_for_the_end_of_the_line() -> None:
    lines = (
        line("a", partial=True),
        line("x", "stderr", partial=True),
        line("b"),
        line("y", "stderr"),
        line("c"),
    )
    assert told(*lines) == "ab\nxy\nc\n"


def test_what_has_no_end_is_told_all_the_same() -> None:
    lines = (line("a", partial=True), line("x", "stderr"))
    assert told(*lines) == "a\nx\n"
    assert told(line("prompt: ", partial=True)) == "prompt: "


def test_a_follower_waits_for_nothing() -> None:
    joined = Joined(timestamps=False, follow=True)
    assert joined.add(line("prompt: ", partial=True)) == "prompt: "
    assert joined.add(line("x", "stderr")) == "\nx\n"
    assert joined.add(line("answer")) == "answer\n"


def test_not_more_than_so_much_is_held() -> None:
    joined = Joined(timestamps=False, follow=False)
    joined.add(line("a", partial=True))
    assert joined.add(line("x" * (HELD - 1), "stderr")) == ""
    assert joined.add(line("y", "stderr")).startswith("\nxxx")
