"""Mounts that links of an image or a volume lead astray, also while somebody exchanges them.

- CVE-2021-30465 (runc): a directory of a shared volume, exchanged for a link while a mount was made on it, put
  that mount elsewhere. CVE-2024-45310: what was made for the mount's target was made on the host.
- CVE-2019-19921, CVE-2023-27561 (runc): an image whose /proc is a link had its procfs where the masks were not.
- CVE-2019-16884, CVE-2023-28642 (runc): an image's volume on /proc, or a link there, made the AppArmor profile
  be written into a file of the attacker's.
- CVE-2017-1002101, CVE-2021-25741 (Kubernetes): a `subpath` that is a link out of its volume, or becomes one.

Here: `runtime/kernel/mounts.py` has the kernel resolve every target and subpath beneath the new root or the
volume (openat2 with RESOLVE_IN_ROOT) and mounts on the descriptor, never on a path; for the kernel's own file
systems no link is allowed at all (`plain`). Sources are copied as detached trees. `runtime/model/validate.py`
refuses mounts on and in /proc; `procfs.open_own` takes /proc/self from a genuine procfs alone.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import EngineError, InitFailed, KernelFailure, SpecInvalid
from runtime.kernel import constants as c
from runtime.kernel import procfs, syscalls
from runtime.model.spec import Mount
from tests.support.engine import Instance
from tests.support.escape import Kind, box, image, says, tried, volume
from tests.support.options import Seen

MASKED = ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware")
READ_ONLY = ("/proc/sys/kernel/domainname", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity")
UP = "../" * 12


@pytest.fixture
def outside(instance: Instance) -> Iterator[Path]:
    """A directory of the host's that must stay as it is."""
    path = instance.config.root.parent / f"outside-{secrets.token_hex(4)}"
    (path / "sub").mkdir(parents=True)
    (path / "file").write_text("of the host")
    before = contents(path)
    yield path
    assert contents(path) == before


def contents(path: Path) -> list[tuple[str, int]]:
    return sorted((str(p), p.lstat().st_ctime_ns) for p in [path, *path.rglob("*")])


def ways_to(outside: Path) -> dict[str, str]:
    return {
        "absolute": str(outside),
        "above": f"{UP}{outside}",
        "file": f"{outside}/file",
        "root": "/",
        "top": UP,
        "magic": f"/proc/1/root{outside}",
        "own": f"/proc/self/root{outside}",
        "cwd": f"/proc/self/cwd/{UP}{outside}",
    }


def points(seen: Seen) -> list[str]:
    """Where the container has mounts; what it does not reach is not among them."""
    return [line.split()[4] for line in seen.proc("mountinfo").splitlines()]


def try_box(instance: Instance, userns: Kind, outside: Path, **changes: Any) -> Seen | None:
    """A container with such mounts; None when its start is refused. Neither way it reaches the host."""
    try:
        seen = box(instance, userns=userns, **changes)
    except InitFailed as error:
        assert error.stage == "mounts", error  # noqa: PT017 - a refusal is fine
        return None
    # A mount over its root leaves it without commands.
    assert "of the host" not in tried(seen, "cat", f"{outside}/file")
    return seen


def test_links_in_an_image_lead_no_mount_outside(
    instance: Instance, userns: Kind, outside: Path
) -> None:
    """Nor what is made for a mount whose target is missing."""
    ways = ways_to(outside)
    evil = image(instance, {f"l/{name}": f"-> {target}" for name, target in ways.items()})
    name, _ = volume(instance)
    made = 0
    for way in ways:
        mounts = (
            Mount("tmpfs", f"/l/{way}/sub/tmpfs"),
            Mount("volume", f"/l/{way}/volume", name),
            Mount("bind", f"/l/{way}/bind", "/etc/hostname"),
            Mount("bind", f"/l/{way}", str(instance.config.root.parent)),
        )
        for mount in mounts:
            if (seen := try_box(instance, userns, outside, image=evil, mounts=(mount,))) is None:
                continue
            made += 1
            # Within its root, under the name that the link has there.
            assert len(points(seen)) > 10
            instance.engine.remove(seen.spec.id, force=True)
    assert made > 0


def test_files_of_ours_follow_no_link_outside(
    instance: Instance, userns: Kind, outside: Path
) -> None:
    """/etc/hosts and its like are mounted in every container; here the image has links in their place."""
    for way in (str(outside), f"{UP}{outside}", f"/proc/1/root{outside}"):
        for files in (
            {"etc": f"-> {way}"},
            {"etc/hosts": f"-> {way}/file", "etc/resolv.conf": f"-> {way}/new"},
        ):
            evil = image(instance, {"x": "", **files})
            try_box(instance, userns, outside, image=evil)


def test_links_in_a_volume_lead_no_other_mount_outside(
    instance: Instance, userns: Kind, outside: Path
) -> None:
    ways = ways_to(outside)
    name, path = volume(instance, **ways)
    for way in ways:
        for mount in (Mount("tmpfs", f"/v/{way}/new"), Mount("bind", f"/v/{way}", "/etc")):
            mounts = (Mount("volume", "/v", name), mount)
            try_box(instance, userns, outside, mounts=mounts)
    assert {p.name for p in path.iterdir() if p.is_symlink()} == set(ways)


@pytest.mark.parametrize("where", ["proc", "sys", "dev"])
def test_the_kernels_file_systems_are_on_no_link(
    instance: Instance, userns: Kind, where: str
) -> None:
    for target in ("/elsewhere", "elsewhere", "/proc/self", UP):
        evil = image(instance, {"elsewhere/": "", where: f"-> {target}"})
        with pytest.raises(InitFailed) as caught:
            box(instance, image=evil, userns=userns)
        assert caught.value.stage == "mounts"
        assert "symbolic link" in caught.value.hint


def test_a_volume_does_not_take_procfs_from_below_its_masks(
    instance: Instance, userns: Kind
) -> None:
    """/proc leads through a directory that a volume hides after procfs is there, and before it is masked."""
    evil = image(instance, {"real/": "", "v/": "", "v/way": "-> /real", "proc": "-> v/way"})
    name, path = volume(instance, way="/nowhere")
    (path / "nothing").mkdir()
    with pytest.raises(InitFailed, match="/proc"):
        box(instance, image=evil, userns=userns, mounts=(Mount("volume", "/v", name),))


@pytest.mark.parametrize(
    "target", ["/proc", "/proc/", "/proc/self/attr", "/proc/sys", "/proc/1", "//proc/./sys", "/sys"]
)
def test_nothing_is_mounted_on_the_kernels_file_systems(instance: Instance, target: str) -> None:
    with pytest.raises(SpecInvalid, match="target of a mount"):
        instance.create(instance.spec(mounts=(Mount("tmpfs", target),)))


def test_a_link_to_them_takes_no_mask_away(instance: Instance, userns: Kind) -> None:
    """What a mount through a link hides stays hidden; what it does not hide stays masked and read-only."""
    evil = image(instance, {"p": "-> /proc", "s": "-> /sys"})
    mounts = (
        Mount("tmpfs", "/p/acpi"),
        Mount("tmpfs", "/s/kernel"),
        Mount("tmpfs", "/p/self/attr"),
    )
    try:
        seen = box(instance, image=evil, userns=userns, mounts=mounts)
    except InitFailed:
        seen = box(instance, image=evil, userns=userns)
    for path in MASKED:
        assert says(seen, f"cat {path}/* {path} 2>/dev/null | head -c 10") == ""
    for path in READ_ONLY:
        if Path(path).exists():
            assert says(seen, f"true > {path}").endswith("Read-only file system")


# -- subpaths ------------------------------------------------------------------------------------


def test_a_subpath_ends_in_its_volume(instance: Instance, userns: Kind, outside: Path) -> None:
    ways = ways_to(outside)
    name, path = volume(instance, **ways)
    (path / "inner").mkdir()
    (path / "chain").symlink_to("inner/../absolute")
    for way in [*ways, "chain", "above/sub", "inner"]:
        mount = Mount("volume", "/m", name, subpath=way)
        if (seen := try_box(instance, userns, outside, mounts=(mount,))) is not None:
            # The root of the mount, as its file system has it, lies in the volume.
            assert seen.mount("/m").root.startswith(str(path)), way
            assert "of the host" not in says(seen, "cat /m /m/file")


@contextmanager
def exchanging(instance: Instance, volume_name: str, target: str) -> Iterator[Seen]:
    """A container that exchanges `d` of the volume, a directory and a link to `target`, without end."""
    script = (
        f"cd /v; mkdir -p dir/sub d; ln -s {target} link;"
        "while true; do mv -T d a; mv -T link d; mv -T d link; mv -T a d; done"
    )
    seen = box(instance, script, mounts=(Mount("volume", "/v", volume_name),))
    yield seen
    assert instance.engine.observe(seen.spec.id).status == "running"
    instance.engine.remove(seen.spec.id, force=True)


def test_exchanging_a_directory_for_a_link_wins_nothing(
    instance: Instance, userns: Kind, outside: Path
) -> None:
    name, path = volume(instance)
    with exchanging(instance, name, f"{UP}{outside}"):
        for number in range(12):
            mounts = (
                Mount("volume", "/v", name),
                Mount("tmpfs", f"/v/d/sub{number % 3}"),
                Mount("volume", "/m", name, subpath="d"),
            )
            try:
                seen = try_box(instance, userns, outside, mounts=mounts)
            except EngineError as error:
                assert error.code != "internal", error  # noqa: PT017 - it may fail as it likes
                continue
            if seen is not None:
                assert seen.mount("/m").root.startswith(str(path))
                assert "of the host" not in says(seen, "cat /m/file /v/d/file /v/link/file")
                instance.engine.remove(seen.spec.id, force=True)


# -- what is written below /proc on behalf of the container --------------------------------------


@pytest.mark.parametrize("lie", ["a tmpfs", "a file", "a directory", "another process's"])
def test_labels_are_written_to_a_genuine_procfs_alone(lie: str, tmp_path: Path) -> None:
    """As an init inside would find it, whose image or volumes have put something over it."""
    (tmp_path / "self/attr").mkdir(parents=True)
    (tmp_path / "self/attr/exec").write_text("")
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(tell, _lied_to(lie, str(tmp_path)).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(told, 200).decode() == "genuine, then refused"
    os.close(told)
    os.close(tell)


def _lied_to(lie: str, directory: str) -> str:
    source, target = {
        "a tmpfs": (directory, "/proc"),
        "a file": (f"{directory}/self/attr/exec", "/proc/self/attr/exec"),
        "a directory": (f"{directory}/self/attr", "/proc/self/attr"),
        "another process's": ("/proc/1", "/proc/self"),
    }[lie]
    syscalls.unshare(c.CLONE_NEWNS)
    syscalls.mount("none", "/", "", c.MS_PRIVATE | c.MS_REC)
    os.close(procfs.open_own("attr/exec", os.O_RDONLY))
    syscalls.mount(source, os.path.realpath(target), "", c.MS_BIND)
    try:
        os.close(procfs.open_own("attr/exec", os.O_RDONLY))
    except (KernelFailure, OSError):
        return "genuine, then refused"
    return "fooled"
