"""A container's log as the body of an answer: text, or one JSON object per line."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from webui.live.stream_client import Batch, Line

HELD = 1 << 20  # characters of one stream that wait for the end of the other's line


async def as_json(first: Batch, rest: AsyncGenerator[Batch, None]) -> AsyncIterator[bytes]:
    async with aclosing(rest):
        yield b"".join(json.dumps(line).encode() + b"\n" for line in first)
        async for batch in rest:
            yield b"".join(json.dumps(line).encode() + b"\n" for line in batch)


async def as_text(
    first: Batch, rest: AsyncGenerator[Batch, None], *, timestamps: bool, follow: bool
) -> AsyncIterator[bytes]:
    joined = Joined(timestamps=timestamps, follow=follow)
    async with aclosing(rest):
        yield "".join(map(joined.add, first)).encode()
        async for batch in rest:
            yield "".join(map(joined.add, batch)).encode()
        if held := joined.end():
            yield held.encode()


class Joined:
    """Text from lines of which long ones come in parts: the parts of one line are one line again.

    What the other stream says meanwhile comes after it; at once when somebody follows, as a prompt
    without a newline may stand there for hours.
    """

    def __init__(self, *, timestamps: bool, follow: bool) -> None:
        self._timestamps = timestamps
        self._limit = 0 if follow else HELD
        self._open = ""  # the stream whose line is not over
        self._held: list[Line] = []
        self._size = 0

    def add(self, line: Line) -> str:
        """The text that can be told now."""
        if self._open and line["stream"] != self._open:
            self._held.append(line)
            self._size += len(line["text"]) + 1
            return self.end() if self._size > self._limit else ""
        start = f"{line['time']} " if self._timestamps and not self._open else ""
        text = f"{start}{line['text']}"
        if line.get("partial"):
            self._open = line["stream"]
            return text
        self._open = ""
        return f"{text}\n{self._rest()}"

    def end(self) -> str:
        """What has been held back."""
        if not self._held:
            return ""
        self._open = ""
        return f"\n{self._rest()}"

    def _rest(self) -> str:
        held, self._held, self._size = self._held, [], 0
        return "".join(map(self.add, held))
