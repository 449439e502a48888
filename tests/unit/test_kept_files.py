"""Files that stay open between readings tell what is in them now."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.cgroups import files
from runtime.cgroups.kept import KeptFiles


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def kept_in(directory: Path | str) -> KeptFiles:
    return KeptFiles(lambda name: f"{directory}/{name}")


def test_a_file_is_read_anew_but_not_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "counter"
    path.write_text("1\n")
    kept = kept_in(tmp_path)
    assert kept.read("counter") == "1\n"
    before = open_files()
    with path.open("r+") as same:
        same.write("22\n")
    assert kept.read("counter") == "22\n"
    assert open_files() == before
    kept.close()
    assert open_files() == before - 1
    assert len(kept) == 0


def test_a_kernel_file_is_generated_anew() -> None:
    kept = kept_in("/proc")
    first = kept.read("uptime")
    while kept.read("uptime") == first:
        pass
    kept.close()


def test_a_file_that_is_not_there_is_empty() -> None:
    kept = kept_in("/proc/no/such")
    assert kept.read("file") == ""
    assert KeptFiles(lambda _: "").read("of.no.controller") == ""
    assert len(kept) == 0


def test_a_file_longer_than_one_read_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "SIZE", 4)
    (tmp_path / "long").write_text("123456789")
    kept = kept_in(tmp_path)
    assert [kept.read("long") for _ in range(2)] == ["123456789"] * 2
    kept.close()
