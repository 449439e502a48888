"""What a process that died had half made goes; what somebody still makes stays."""

from __future__ import annotations

import errno
import os
import subprocess

import pytest

from runtime.store.files import write_atomic
from runtime.store.leftovers import give_up, half_made, sweep, sweep_doomed
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


def test_a_file_in_the_making_is_known_by_its_name(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    made: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", lambda name, _: made.append(name))
        write_atomic(config.run / "state.json", b"{}")
    [name] = made
    half = name.replace(f".{os.getpid()}", f".{dead.pid}")
    os.rename(name, half)
    assert sweep(config) == [half]


def test_what_is_given_up_and_resists_goes_later(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = config.tmp / half_made("bundle")
    half.mkdir(parents=True)
    (half / "spec.json").touch()
    give_up(config, config.tmp / "never-made")

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", fail)
        give_up(config, half)
    assert not half.exists()
    sweep_doomed(config)
    assert os.listdir(config.tmp) == []
