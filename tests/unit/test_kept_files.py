"""Files that stay open between readings tell what is in them now."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.cgroups import kept
from runtime.cgroups.kept import KeptFiles


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_file_is_read_anew_but_not_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "counter"
    path.write_text("1\n")
    files = KeptFiles()
    assert files.read(str(path)) == "1\n"
    before = open_files()
    with path.open("r+") as same:
        same.write("22\n")
    assert files.read(str(path)) == "22\n"
    assert open_files() == before
    files.close()
    assert open_files() == before - 1


def test_a_kernel_file_is_generated_anew() -> None:
    files = KeptFiles()
    first = files.read("/proc/uptime")
    while files.read("/proc/uptime") == first:
        pass
    files.close()


def test_a_file_that_is_not_there_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        KeptFiles().read("/proc/no/such/file")


def test_what_nobody_reads_any_more_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(kept, "_UNUSED", 0.0)
    files = KeptFiles()
    files.read(f"{tmp_path}/a")
    before = open_files()
    for _ in range(3):
        files.read(f"{tmp_path}/b")
        files.sweep()
    assert open_files() == before, "b is open instead of a"
    files.close()


def test_above_the_most_files_are_read_without_keeping_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("a")
    monkeypatch.setattr(kept, "_MOST", 0)
    before = open_files()
    assert KeptFiles().read(f"{tmp_path}/a") == "a"
    assert open_files() == before
