"""Descriptors and working directories of the host that leak into a container.

- CVE-2024-21626 (runc): descriptor 7 led to the host's /sys/fs/cgroup; a working directory of
  `/proc/self/fd/7` (in the image, or of an `exec`) began the container's process outside its root.
- CVE-2016-9962 (runc): a process joining a container held descriptors of the host's while those inside
  could look into it.
- The neighbouring trick: a working directory whose path has links of the image's or a volume's in it.

Here: every descriptor is made close-on-exec; `runtime/shim/command.py` marks all above 2 once more
before anything of the image's is looked up, enters the directory only after the pivot, and asks the kernel
whether it lies inside (getcwd). The init that reaps (`process.init`) closes what it has.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.errors import InitFailed
from runtime.model.spec import Mount, PortMapping
from runtime.shim.client import ShimClient
from tests.support.elf import program, supported
from tests.support.engine import Instance, free_port
from tests.support.escape import Kind, box, image, says, tried, volume
from tests.support.options import Seen

# More than any process of ours has open.
NUMBERS = range(3, 24)


def descriptors(pid: int) -> dict[int, str]:
    """As the host sees them."""
    directory = f"/proc/{pid}/fd"
    return {int(n): os.readlink(f"{directory}/{n}") for n in os.listdir(directory)}


def root_of(pid: int) -> tuple[int, int]:
    facts = os.stat(f"/proc/{pid}/root/.")
    return facts.st_dev, facts.st_ino


def top_of(pid: int) -> tuple[int, int]:
    """Where one ends who climbs from the working directory of a process: nobody climbs out of a root."""
    facts = os.stat(f"/proc/{pid}/cwd/" + "../" * 40)
    return facts.st_dev, facts.st_ino


@pytest.mark.parametrize("tty", [False, True], ids=["pipes", "terminal"])
@pytest.mark.parametrize("init", [False, True], ids=["alone", "reaped"])
def test_a_container_begins_with_its_three_descriptors(
    instance: Instance, userns: Kind, tty: bool, init: bool
) -> None:
    network = instance.network()
    seen = box(
        instance,
        userns=userns,
        network=network,
        ports=(PortMapping(80, free_port()),),
        process={"tty": tty, "stdin": not init, "init": init},
    )
    kind = ("/dev/pts/",) if tty else ("pipe:", "/dev/null")
    for pid in [seen.pid, *seen.instance.engine.cgroups.open(seen.spec.id).pids()]:
        held = descriptors(pid)
        assert set(held) == {0, 1, 2}, held
        assert all(target.startswith(kind) for target in held.values()), held


@pytest.mark.parametrize("tty", [False, True], ids=["pipes", "terminal"])
def test_a_further_process_has_its_three_descriptors(seen: Seen, tty: bool) -> None:
    shim = ShimClient(seen.instance.config, seen.spec.id)
    with shim.exec(["sleep", "1000"], tty=tty, stdin=True) as session:
        held = descriptors(session.pid)
        assert set(held) == {0, 1, 2}, held
        kind = "/dev/pts/" if tty else "pipe:"
        assert all(target.startswith(kind) for target in held.values()), held
        os.kill(session.pid, 9)


def test_no_descriptor_is_seen_from_inside(seen: Seen) -> None:
    # 3 is the directory that `ls` reads.
    assert tried(seen, "ls", "/proc/self/fd").split() == ["0", "1", "2", "3"]
    assert says(seen, "echo /proc/1/fd/*").split() == [f"/proc/1/fd/{n}" for n in (0, 1, 2)]


def test_no_descriptor_is_a_working_directory(seen: Seen) -> None:
    """Whatever a number stood for while the process was made, nobody begins there."""
    inside = f"{seen.instance.config.root}"
    for number in NUMBERS:
        for cwd in (f"/proc/self/fd/{number}", f"/proc/self/fd/{number}/../../.."):
            shown = tried(seen, "sh", "-c", "ls -a . ../../../..; pwd -P", cwd=cwd)
            assert inside not in shown, (cwd, shown)
            assert "unreachable" not in shown, (cwd, shown)


@pytest.mark.parametrize("number", [3, 4, 5, 6, 7, 8, 9])
def test_no_descriptor_is_the_working_directory_of_an_image(
    instance: Instance, userns: Kind, number: int
) -> None:
    try:
        seen = box(instance, userns=userns, process={"cwd": f"/proc/self/fd/{number}"})
    except InitFailed as error:
        assert error.stage in ("cwd", "mounts"), error  # noqa: PT017 - either may happen
        return
    assert top_of(seen.pid) == root_of(seen.pid)
    # Nor a way around what is read-only in there.
    assert "/proc/sys" not in os.readlink(f"/proc/{seen.pid}/cwd")


def test_links_in_its_path_lead_nowhere_outside(instance: Instance, userns: Kind) -> None:
    """The directory is looked up, and made, inside: what a link says is said of the container's own tree."""
    outside = instance.config.root.parent / "outside"
    outside.mkdir(exist_ok=True)
    links = {
        "above": "../../../../../../../../../..",
        "root": "/proc/1/root",
        "cwd": "/proc/1/cwd",
        "seven": "/proc/self/fd/7",
        "absolute": str(outside),
        "made": f"{outside}/made",
    }
    evil = image(instance, {f"w/{name}": f"-> {target}" for name, target in links.items()})
    name, _ = volume(instance, **links)
    seen = box(instance, userns=userns, image=evil, mounts=(Mount("volume", "/v", name),))
    shim = ShimClient(instance.config, seen.spec.id)
    begun = 0
    for directory in ("/w", "/v"):
        for link in links:
            try:
                session = shim.exec(["sleep", "1000"], cwd=f"{directory}/{link}")
            except InitFailed:
                continue
            with session:
                begun += 1
                assert top_of(session.pid) == root_of(seen.pid) == root_of(session.pid), link
                os.kill(session.pid, 9)
    assert begun >= 4
    assert list(outside.iterdir()) == []


@pytest.mark.skipif(not supported, reason="the attack is made of x86-64 code")
def test_whoever_leaves_a_root_is_in_the_container_s(instance: Instance, userns: Kind) -> None:
    """chroot(2) leaves the working directory where it was, above the new root: from there up, and out."""
    leaves = program(
        ("mkdir", b"/inner", 0o755),
        ("chroot", b"/inner"),
        ("chdir", b"../" * 12),
        ("chroot", b"."),
        ("creat", b"/up", 0o644),
    )
    seen = box(instance, userns=userns, image=image(instance, {"leaves": leaves}))
    assert says(seen, "/leaves; ls /up") == "/up"


@pytest.mark.parametrize("kind", ["mnt", "root"])
def test_whoever_joins_the_namespace_is_in_the_container_s(
    instance: Instance, userns: Kind, kind: str
) -> None:
    allowed = {"cap_add": ("SYS_ADMIN", "SYS_PTRACE"), "seccomp": "unconfined"}
    seen = box(instance, userns=userns, security=allowed)
    enter = "nsenter --mount=/proc/1/ns/mnt" if kind == "mnt" else "chroot /proc/1/root"
    assert says(seen, f"touch /here; {enter} ls /here") == "/here"


def test_nothing_of_the_platform_s_environment_leaks(instance: Instance, userns: Kind) -> None:
    for init in (False, True):
        seen = box(instance, userns=userns, process={"init": init})
        assert "SLIPWAY" not in says(seen, "env; cat /proc/[0-9]*/environ")
        names = {w.partition("=")[0] for w in tried(seen, "env").splitlines()}
        assert names <= {"PATH", "HOSTNAME", "HOME", "PWD", "SHLVL", "TERM", "container"}


def test_the_host_s_directories_are_not_the_container_s(seen: Seen) -> None:
    assert os.readlink(f"/proc/{seen.pid}/cwd") == "/"
    assert root_of(seen.pid) != (Path("/").stat().st_dev, Path("/").stat().st_ino)
    assert (
        says(seen, "stat -c %d:%i / /.. /../..").split().count(says(seen, "stat -c %d:%i /")) == 3
    )
