"""What a person reads: steps, facts and the prefixed lines of the processes, coloured on a terminal."""

from __future__ import annotations

import os
import sys
import time

_COLOURS = {
    "grey": "90",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
    "bold": "1",
}
_PREFIX_WIDTH = 9


def coloured() -> bool:
    """https://no-color.org, and never into a file or a pipe."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def paint(text: str, colour: str) -> str:
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if coloured() else text


def say(text: str = "") -> None:
    print(text, flush=True)


def step(text: str) -> None:
    """One thing that takes a moment, announced before it is done."""
    say(f"{paint('•', 'cyan')} {text}")


def complain(message: str, hint: str = "") -> None:
    print(f"{paint('slipway:', 'red')} {message}", file=sys.stderr, flush=True)
    if hint:
        print(f"         {hint}", file=sys.stderr, flush=True)


def line(source: str, colour: str, text: str) -> None:
    """One log line of a process: time, name, text."""
    clock = time.strftime("%H:%M:%S")
    head = (
        f"{paint(clock, 'grey')} {paint(source.ljust(_PREFIX_WIDTH), colour)} {paint('│', 'grey')}"
    )
    say(f"{head} {text}")
