"""Mount steps carried out for real, in a mount namespace of the test's own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runtime.kernel import constants as c
from runtime.kernel.mounts import describe
from runtime.model.plan import MountStep

CHECKOUT = Path(__file__).resolve().parent.parent.parent
# A process of its own, because unshare(2) is for the whole of one.
_CHILD = """
import json, os, sys
from runtime.errors import EngineError
from runtime.kernel import constants as c, mounts, syscalls
task = json.load(sys.stdin)
syscalls.unshare(c.CLONE_NEWNS)
syscalls.mount("none", "/", "", c.MS_PRIVATE | c.MS_REC)
answer = {}
try:
    if task["overlay"]:
        mounts.mount_overlay(task["overlay"])
    else:
        syscalls.mount(task["root"], task["root"], "", c.MS_BIND)
    root = os.open(task["root"], c.O_PATH)
    for step in task["steps"]:
        mounts.execute(step, root)
except EngineError as error:
    answer["error"] = error.payload()
answer["results"] = [eval(e, {"os": os, "root": task["root"], "call": lambda f, *a: call(f, *a)}) for e in task["look"]]
answer["mounts"] = [l for l in open("/proc/self/mountinfo").read().splitlines() if task["root"] in l]
json.dump(answer, sys.stdout)
"""  # fmt: skip
_HELPERS = """
def call(f, *a):
    try:
        return f(*a)
    except OSError as error:
        return error.strerror
"""


def carry_out(
    root: Path,
    *steps: MountStep,
    look: tuple[str, ...] = (),
    overlay: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """{"results": value of each expression in `look`, "mounts": lines of mountinfo, "error": payload}."""
    task = {"root": str(root), "steps": steps, "look": look, "overlay": overlay}
    done = subprocess.run(
        [sys.executable, "-c", _HELPERS + _CHILD],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    assert str(root) not in Path("/proc/self/mountinfo").read_text(), "a mount has leaked"
    return answer


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A host directory with a file in it."""
    made = tmp_path / "data"
    made.mkdir()
    (made / "file").write_text("host")
    return made


def bind(source: Path, target: str, **options: Any) -> MountStep:
    step: MountStep = {"kind": "bind", "source": str(source), "target": target, "make": "dir"}
    return {**step, **options}  # type: ignore[typeddict-item]


def test_a_bind_shows_the_source(root: Path, data: Path) -> None:
    answer = carry_out(root, bind(data, "/a/b"), look=("open(root + '/a/b/file').read()",))
    assert answer["results"] == ["host"]


def test_a_file_is_bound_on_a_file(root: Path, data: Path) -> None:
    look = ("open(root + '/etc/name').read()",)
    assert carry_out(root, bind(data / "file", "/etc/name"), look=look)["results"] == ["host"]


def test_a_read_only_bind_takes_no_write_and_the_source_still_does(root: Path, data: Path) -> None:
    look = (f"call(open, root + '{'/d/file'}', 'w')", f"os.access('{data}/file', os.W_OK)")
    answer = carry_out(root, bind(data, "/d", flags=c.MS_RDONLY | c.MS_NOSUID), look=look)
    assert answer["results"] == ["Read-only file system", True]
    assert "ro,nosuid" in answer["mounts"][-1]


def test_read_only_reaches_the_mounts_below(root: Path, data: Path) -> None:
    (data / "sub").mkdir()
    below: MountStep = {
        "kind": "filesystem", "fstype": "tmpfs", "target": "/src/sub", "make": "dir",
    }  # fmt: skip
    source = root / "src"
    (source / "sub").mkdir(parents=True)
    copy = bind(source, "/copy", flags=c.MS_RDONLY, recursive=True)
    look = (
        "call(open, root + '/copy/sub/x', 'w')",
        "call(open, root + '/src/sub/x', 'w').close()",
    )
    assert carry_out(root, below, copy, look=look)["results"] == ["Read-only file system", None]


def test_propagation_is_as_asked(root: Path, data: Path) -> None:
    answer = carry_out(
        root,
        bind(data, "/private"),
        bind(data, "/shared", propagation="rshared"),
    )
    private, shared = answer["mounts"][-2:]
    assert "shared:" not in private
    assert "shared:" in shared


def test_an_absolute_link_in_the_image_stays_in_the_image(
    root: Path, data: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "etc").symlink_to(outside)
    (root / str(outside).lstrip("/")).mkdir(parents=True)
    answer = carry_out(root, bind(data, "/etc/conf"))
    assert "error" not in answer
    assert list(outside.iterdir()) == []
    assert (root / str(outside).lstrip("/") / "conf").is_dir()


@pytest.mark.parametrize("link", ["/nowhere", "../../../../nowhere"])
def test_a_dangling_link_is_not_followed_to_create(root: Path, data: Path, link: str) -> None:
    (root / "gone").symlink_to(link)
    answer = carry_out(root, bind(data, "/gone"))
    assert answer["error"]["extra"]["errno"] == "ELOOP"
    assert "dangling" in answer["error"]["hint"]
    assert not (root / "nowhere").exists()


def test_dots_do_not_leave_the_root(root: Path, data: Path) -> None:
    answer = carry_out(root, bind(data, "/../../../up"), look=("os.listdir(root + '/up')",))
    assert answer["results"] == [["file"]]


def test_a_subpath_does_not_leave_the_volume(root: Path, data: Path) -> None:
    (data / "out").symlink_to("/etc")
    answer = carry_out(root, bind(data, "/d", subpath="out"))
    assert answer["error"]["extra"]["errno"] == "ENOENT"


def test_a_failure_names_the_step_and_a_path_people_know(root: Path, tmp_path: Path) -> None:
    answer = carry_out(root, bind(tmp_path / "missing", "/d"))
    assert answer["error"]["code"] == "kernel_failure"
    assert answer["error"]["extra"]["path"] == str(tmp_path / "missing")
    assert answer["error"]["extra"]["step"].startswith("bind ")
    bad: MountStep = {"kind": "filesystem", "fstype": "nosuchfs", "target": "/x", "make": "dir"}
    error = carry_out(root, bad)["error"]
    assert (error["extra"]["errno"], error["extra"]["path"]) == ("ENODEV", "/x")


def test_an_optional_step_may_fail(root: Path, tmp_path: Path) -> None:
    assert "error" not in carry_out(root, bind(tmp_path / "missing", "/d", optional=True))


def test_a_file_and_a_directory_are_masked(root: Path) -> None:
    (root / "secret").write_text("s")
    (root / "dir").mkdir()
    (root / "dir" / "inside").write_text("s")
    answer = carry_out(
        root,
        {"kind": "mask", "target": "/secret"},
        {"kind": "mask", "target": "/dir"},
        look=(
            "open(root + '/secret').read()",
            "os.listdir(root + '/dir')",
            "call(open, root + '/dir/x', 'w')",
        ),
    )
    assert answer["results"] == ["", [], "Read-only file system"]


def test_a_remount_lays_a_read_only_copy_over_a_path(root: Path) -> None:
    (root / "proc").mkdir()
    (root / "proc" / "file").write_text("x")
    step: MountStep = {
        "kind": "remount", "target": "/proc", "flags": c.MS_RDONLY, "recursive": True,
    }  # fmt: skip
    look = ("open(root + '/proc/file').read()", "call(open, root + '/proc/file', 'w')")
    assert carry_out(root, step, look=look)["results"] == ["x", "Read-only file system"]


def test_a_remount_hides_nothing_that_is_mounted_below(root: Path, data: Path) -> None:
    step: MountStep = {"kind": "remount", "target": "/top", "flags": c.MS_RDONLY}
    look = ("open(root + '/top/below/file').read()", "call(os.mkdir, root + '/top/x')")
    answer = carry_out(root, bind(data, "/top/below"), step, look=look)
    assert answer["results"] == ["host", "Read-only file system"]


def test_attributes_are_given_to_what_is_mounted_and_all_below(root: Path, data: Path) -> None:
    step: MountStep = {
        "kind": "attributes", "target": "/top", "flags": c.MS_RDONLY, "recursive": True,
    }  # fmt: skip
    tmpfs: MountStep = {
        "kind": "filesystem", "fstype": "tmpfs", "source": "tmpfs", "target": "/top", "make": "dir",
    }  # fmt: skip
    look = ("call(os.mkdir, root + '/top/x')", "call(open, root + '/top/below/file', 'w')")
    answer = carry_out(root, tmpfs, bind(data, "/top/below"), step, look=look)
    assert answer["results"] == ["Read-only file system", "Read-only file system"]


def test_devices_and_links(root: Path) -> None:
    answer = carry_out(
        root,
        {"kind": "device", "source": "/dev/null", "target": "/dev/null"},
        {"kind": "symlink", "source": "/proc/self/fd", "target": "/dev/fd"},
        look=("os.readlink(root + '/dev/fd')", "oct(os.stat(root + '/dev/null').st_mode)"),
    )
    assert answer["results"] == ["/proc/self/fd", "0o20666"]


@pytest.mark.parametrize("count", [2, 120])
def test_layers_are_stacked_however_many(root: Path, tmp_path: Path, count: int) -> None:
    """120 layers' paths do not fit into the page that mount(2) takes."""
    lower: list[str] = []
    for number in range(count):
        layer = tmp_path / "layers" / f"{number:064d}" / "diff"
        layer.mkdir(parents=True)
        (layer / f"f{number}").write_text(str(number))
        (layer / "top").write_text(str(number))
        lower.insert(0, str(layer))
    upper, work = tmp_path / "upper", tmp_path / "work"
    upper.mkdir()
    work.mkdir()
    overlay = {
        "lower": lower, "upper": str(upper), "work": str(work), "rootfs": str(root),
        "read_only": False,
    }  # fmt: skip
    look = ("len(os.listdir(root))", "open(root + '/top').read()", "os.mkdir(root + '/new')")
    answer = carry_out(root, overlay=overlay, look=look)
    assert answer["results"] == [count + 1, str(count - 1), None]
    assert (upper / "new").is_dir()


def test_a_step_describes_itself() -> None:
    step: MountStep = {
        "kind": "bind", "source": "/srv/data", "target": "/data", "flags": c.MS_RDONLY,
    }  # fmt: skip
    assert describe(step) == "bind /srv/data -> /data (ro)"
    assert describe({"kind": "mask", "target": "/proc/kcore"}) == "mask /proc/kcore"
