"""What a process that died had half made: files beside those they were to replace, trees not yet renamed.

Whoever makes such a thing puts its pid into the name, so that anybody can tell when nobody will finish it.
What is to be deleted is renamed into Config.tmp first, and is nobody's from then on.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from runtime.store.files import fsync_directory
from runtime.store.paths import Config
from runtime.store.trees import remove_tree

# "<file>.<pid>-<thread>.tmp", "bundle-<pid>-<random>", ".mount-points-<pid>-<thread>"
_DOOMED = "doomed-"
_HALF_MADE = re.compile(
    r".+\.(\d+)(?:-\d+)?\.tmp|(?:bundle|volume|half|rehearsal|userns|\.mount-points)-(\d+)(?:-\w+)?",
    re.ASCII,
)


def half_made(kind: str) -> str:
    """A name for a tree in the making: a "bundle", a "volume", the "half" of a volume's content."""
    return f"{kind}-{os.getpid()}-{uuid.uuid4().hex}"


def doom(config: Config, path: Path) -> None:
    """Take the tree at `path` away at once, and delete it; what resists is deleted by a later `sweep_doomed`.

    Raises FileNotFoundError when there is none, OSError when it stays as it is.
    """
    config.tmp.mkdir(parents=True, exist_ok=True)
    doomed = config.tmp / f"{_DOOMED}{uuid.uuid4().hex}"
    os.rename(path, doomed)
    with suppress(OSError):  # a crash of the host may bring it back
        fsync_directory(path.parent)
    with suppress(OSError):
        remove_tree(doomed)


def give_up(config: Config, path: Path) -> None:
    """Take away what was half made, if it is there; what resists is deleted as by `doom`. Raises nothing."""
    try:
        doom(config, path)
    except OSError:
        with suppress(OSError):
            remove_tree(path)


def sweep_doomed(config: Config) -> None:
    """Delete what an earlier `doom` could not; costs one look into a directory that is mostly empty."""
    for path in _entries(os.fspath(config.tmp)):
        if os.path.basename(path).startswith(_DOOMED):
            with suppress(OSError):
                remove_tree(path)


def sweep(config: Config) -> list[str]:
    """Remove what nobody will finish; returns the paths. What resists is left for the next time."""
    found = [path for path in _candidates(config) if _is_abandoned(os.path.basename(path))]
    removed = []
    for path in found:
        with suppress(OSError):
            remove_tree(path)
            removed.append(path)
    return removed


def _is_abandoned(name: str) -> bool:
    match = _HALF_MADE.fullmatch(name)
    return match is not None and not os.path.exists(f"/proc/{match[1] or match[2]}")


def _candidates(config: Config) -> Iterator[str]:
    """Everything in the directories in which something is ever half made; not what lies in volumes."""
    for directory in (
        config.root,
        config.run,
        config.tmp,
        config.networks,
        config.images,
        config.ports,
    ):
        yield from _entries(os.fspath(directory))
    for parent in (config.containers, config.volumes, config.dns, config.run / "containers"):
        for directory_name in _entries(os.fspath(parent)):
            yield from _entries(directory_name)


def _entries(directory: str) -> list[str]:
    try:
        return [f"{directory}/{name}" for name in os.listdir(directory)]
    except OSError:
        return []
