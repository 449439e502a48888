"""What a process that died had half made goes; what somebody still makes stays."""

from __future__ import annotations

import os
import subprocess

from runtime.store.leftovers import half_made, sweep
from runtime.store.paths import Config


def test_only_what_nobody_will_finish_goes(config: Config) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    container = config.bundle("a" * 64)
    volume = config.volume("data") / "_data"
    for directory in (container, config.tmp, config.networks, config.dns / "net", volume):
        directory.mkdir(parents=True)
    gone = [
        container / f"spec.json.{dead.pid}.tmp",
        config.tmp / half_made("bundle").replace(str(os.getpid()), str(dead.pid)),
        config.volume("data") / f"half-{dead.pid}-abc",
        config.networks / f"n.json.{dead.pid}.tmp",
        config.dns / "net" / f"c.json.{dead.pid}.tmp",
        config.run / f"rehearsal-{dead.pid}",
        config.root / f".mount-points-{dead.pid}-7",
    ]
    kept = [
        container / "spec.json",
        container / f"spec.json.{os.getpid()}.tmp",
        config.tmp / half_made("volume"),
        volume / f"mine.{dead.pid}.tmp",
    ]
    for path in (*gone, *kept):
        path.mkdir()
        (path / "content").touch()
    assert sorted(sweep(config)) == sorted(map(str, gone))
    assert [p for p in gone if p.exists()] == []
    assert [p for p in kept if not p.exists()] == []
