"""`docker run --user` and Dockerfile USER, looked up in an image's files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.errors import InitFailed
from runtime.shim.user import User, resolve_user

PASSWD = """root:x:0:0:root:/root:/bin/sh
app:x:1234:567::/home/app:/bin/sh
1000:x:77:88::/odd:/bin/sh
broken line
nohome:x:5:6:::
"""
GROUP = "root:x:0:\nstaff:x:50:app,other\naudio:x:29:other\nvideo:x:44:app\nbad\n"


@pytest.fixture
def etc(tmp_path: Path) -> str:
    (tmp_path / "passwd").write_text(PASSWD)
    (tmp_path / "group").write_text(GROUP)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", (0, 0, [0], "/root")),
        ("root", (0, 0, [0], "/root")),
        ("app", (1234, 567, [567, 50, 44], "/home/app")),
        ("1234", (1234, 567, [567, 50, 44], "/home/app")),
        ("app:audio", (1234, 29, [29], "/home/app")),
        ("app:4711", (1234, 4711, [4711], "/home/app")),
        ("4711", (4711, 0, [0], "/")),
        ("4711:815", (4711, 815, [815], "/")),
        ("1000", (77, 88, [88], "/odd")),  # a name of digits comes before the number
        ("nohome", (5, 6, [6], "/")),
    ],
)
def test_users(etc: str, user: str, expected: tuple[int, int, list[int], str]) -> None:
    found = resolve_user(user, [], etc=etc)
    assert (found.uid, found.gid, found.groups, found.home) == expected


def test_further_groups_by_name_and_number(etc: str) -> None:
    assert resolve_user("app", ["audio", "99"], etc=etc).groups == [567, 50, 44, 29, 99]


@pytest.mark.parametrize(("user", "groups"), [("ghost", []), ("app:ghost", []), ("app", ["ghost"])])
def test_names_the_image_lacks_are_refused(etc: str, user: str, groups: list[str]) -> None:
    with pytest.raises(InitFailed, match="ghost") as caught:
        resolve_user(user, groups, etc=etc)
    assert (caught.value.stage, caught.value.exit_code) == ("user", 126)
    assert caught.value.extra["field"] == ("process.groups" if groups else "process.user")


def test_an_image_without_the_files_has_root_and_numbers(tmp_path: Path) -> None:
    assert resolve_user("", [], etc=str(tmp_path)) == User(0, 0, [0], "/root", "root")
    assert resolve_user("5:6", [], etc=str(tmp_path)).uid == 5


def test_a_pipe_in_place_of_the_file_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "passwd")
    assert resolve_user("5", [], etc=str(tmp_path)).uid == 5


def test_bytes_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "passwd").write_bytes(b"\xff\xfe:x:1:1:::\napp:x:7:8:::\n")
    assert resolve_user("app", [], etc=str(tmp_path)).uid == 7
