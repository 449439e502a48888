"""The end of a container's output as it came: for a terminal that shows it again."""

from __future__ import annotations

from pathlib import Path

from runtime.store.logs import STREAMS, numbers, records

LIMIT = 1 << 20  # bytes at most

Chunk = tuple[str, bytes]  # "stdout" or "stderr", bytes as they were read


def output_tail(directory: str | Path, *, until: int, lines: int) -> list[Chunk]:
    """Chunks of the last `lines` lines that were written up to `until` (ns since 1970), oldest first."""
    kept: list[Chunk] = []
    size = breaks = 0
    for number in reversed(numbers(directory)):
        found = [r for r in records(directory, number) if r[0] <= until]
        for _, stream, data in reversed(found):
            if lines <= 0 or size >= LIMIT:
                return kept[::-1]
            name = STREAMS.get(stream, "stdout")
            # What the very last line ends with is no break between two.
            breaks += data.count(b"\n") - (not kept and data.endswith(b"\n"))
            if breaks >= lines:
                kept.append((name, _after_breaks(data, breaks - lines + 1)))
                return kept[::-1]
            kept.append((name, data))
            size += len(data)
    return kept[::-1]


def _after_breaks(data: bytes, count: int) -> bytes:
    start = 0
    for _ in range(count):
        start = data.index(b"\n", start) + 1
    return data[start:]
