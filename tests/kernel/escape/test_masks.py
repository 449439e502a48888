"""Masked and read-only paths, terminals, and writes on the container's behalf, turned to other files.

- CVE-2025-31133 (runc): masks were binds of the container's /dev/null; a link in its place had any file of procfs
  bound there, writable.
- CVE-2025-52565 (runc): /dev/pts/N, exchanged for a link, was bound to /dev/console before the masks.
- CVE-2025-52881 (runc): a security label or a sysctl was written to whatever the container had below /proc.

Here: masks are the host's own /dev/null, on a read-only mount so that not even its mode can be changed, and empty
read-only tmpfs (`_mask` in `runtime/kernel/mounts.py`). /dev is a fresh tmpfs of the container's; a terminal's
other side is opened by descriptor and, after the masks, mounted by descriptors over a /dev/console made on the spot
(`runtime/shim/tty.py`). Sysctls are written before the
pivot, through the host's /proc (`runtime/shim/init.py`); labels see test_mounts.py.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from runtime.errors import InitFailed, SpecInvalid
from runtime.kernel.standard import MASKED_PATHS, READONLY_PATHS
from runtime.model.spec import Device, Mount, Restart
from runtime.shim.client import ShimClient
from tests.support.engine import Instance
from tests.support.escape import Kind, box, image, says, volume
from tests.support.options import Seen
from tests.support.waiting import wait_until

PRESENT = [path for path in MASKED_PATHS if Path(path).exists()]
READ_ONLY = [path for path in READONLY_PATHS if Path(path).exists()]
NULL = os.makedev(1, 3)


def check_masks(seen: Seen) -> None:
    for path in PRESENT:
        mount = seen.mount(path)
        facts = os.stat(f"/proc/{seen.pid}/root{path}")
        assert "ro" in mount.options, path
        if stat.S_ISDIR(facts.st_mode):
            assert (mount.fstype, os.listdir(f"/proc/{seen.pid}/root{path}")) == ("tmpfs", []), path
        else:
            assert facts.st_rdev == NULL, path
            # The host's node, not one from the container's /dev.
            assert facts.st_dev == os.stat("/dev/null").st_dev, path
    for path in READ_ONLY:
        assert "ro" in seen.mount(path).options, path


def test_masks_are_of_our_own_making(seen: Seen) -> None:
    assert PRESENT
    assert READ_ONLY
    check_masks(seen)
    for path in PRESENT:
        assert says(seen, f"cat {path} {path}/* 2>/dev/null | head -c 10") == "", path


@pytest.mark.parametrize("lie", ["-> /proc/sys/kernel/core_pattern", "-> /proc", "a file"])
def test_what_an_image_has_for_null_is_not_used(instance: Instance, userns: Kind, lie: str) -> None:
    evil = image(instance, {"dev/null": lie, "dev/pts/0": lie, "dev/ptmx": lie, "dev/console": lie})
    seen = box(instance, image=evil, userns=userns, process={"tty": True})
    check_masks(seen)
    assert os.stat(f"/proc/{seen.pid}/root/dev/null").st_rdev == NULL


def test_what_it_does_to_its_null_comes_to_nothing(instance: Instance, userns: Kind) -> None:
    """Neither for those that join it, nor for its next life."""
    seen = box(
        instance,
        "rm -f /dev/null; ln -s /proc/sys/kernel/core_pattern /dev/null; echo done; exec sleep 1000",
        userns=userns,
        restart=Restart("always"),
    )
    instance.wait_for_output(seen.spec, "done")
    check_masks(seen)
    shim = ShimClient(instance.config, seen.spec.id)
    with shim.exec(["sleep", "1000"]) as session:  # its stdin is null
        assert os.stat(f"/proc/{session.pid}/fd/0").st_rdev == NULL
        os.kill(session.pid, 9)
    first = seen.pid
    os.kill(first, 9)
    wait_until(lambda: seen.state.pid not in (0, first), what="its next life")
    instance.wait_for_output(seen.spec, "done\ndone")
    check_masks(seen)


def test_the_host_s_null_behind_the_masks_keeps_its_mode(seen: Seen) -> None:
    files = [path for path in PRESENT if not Path(path).is_dir()]
    assert files
    before = os.stat("/dev/null")
    for path in files:
        # What it is already, should it succeed.
        told = says(seen, f"chmod 666 {path}; chown 0:0 {path}; touch {path}")
        assert told.count("Read-only file system") == 3, told
    after = os.stat("/dev/null")
    assert (after.st_mode, after.st_uid, after.st_ctime_ns) == (
        before.st_mode,
        before.st_uid,
        before.st_ctime_ns,
    )


def test_masks_cannot_be_taken_off(seen: Seen) -> None:
    script = "; ".join(
        f"umount {path}; umount -l {path}; mount -o remount,rw,bind {path}; mount --bind /tmp {path}"
        for path in (PRESENT[0], "/proc/sys", "/sys", "/sys/fs/cgroup")
    )
    told = says(seen, script).lower()
    assert told.count("denied") + told.count("not permitted") == 16, told
    check_masks(seen)


# -- terminals -----------------------------------------------------------------------------------


def test_a_terminal_is_of_the_container_s_own(instance: Instance, userns: Kind) -> None:
    seen = box(instance, userns=userns, process={"tty": True})
    pts = os.stat(f"/proc/{seen.pid}/root/dev/pts").st_dev
    assert os.stat(f"/proc/{seen.pid}/fd/0").st_dev == pts
    assert pts != os.stat("/dev/pts").st_dev
    # The console is that terminal and nothing else, and so is what the kernel has laid over its name.
    console, terminal = (
        os.stat(f"/proc/{seen.pid}/{path}") for path in ("root/dev/console", "fd/0")
    )
    assert os.path.samestat(console, terminal)
    assert console.st_rdev == terminal.st_rdev
    laid = seen.mount("/dev/console")
    assert (laid.fstype, laid.root) == ("devpts", "/0")
    # Who asked for another console has that.
    other = box(
        instance,
        userns="host",
        process={"tty": True},
        security={"devices": (Device("/dev/null", "/dev/console"),)},
    )
    found = os.stat(f"/proc/{other.pid}/root/dev/console")
    assert found.st_rdev == os.stat("/dev/null").st_rdev


@pytest.mark.parametrize(
    "lie", ["/proc/sys/kernel/core_pattern", "/proc/self/exe", "/proc/sysrq-trigger", "/etc/hosts"]
)
def test_a_false_ptmx_makes_no_terminal(instance: Instance, userns: Kind, lie: str) -> None:
    name, _ = volume(instance, ptmx=lie)
    with pytest.raises(InitFailed) as caught:
        box(
            instance,
            userns=userns,
            process={"tty": True},
            mounts=(Mount("volume", "/dev/pts", name),),
        )
    assert caught.value.stage in ("tty", "init"), caught.value


# -- sysctls -------------------------------------------------------------------------------------


def test_sysctls_reach_the_kernel_whatever_lies_over_proc(instance: Instance, userns: Kind) -> None:
    """A volume, through a link in the image, where the container's /proc/sys was."""
    name, path = volume(instance)
    (path / "net/ipv4").mkdir(parents=True)
    trap = path / "net/ipv4/ip_default_ttl"
    trap.write_text("trapped\n")
    evil = image(instance, {"p": "-> /proc"})
    seen = box(
        instance,
        userns=userns,
        image=evil,
        mounts=(Mount("volume", "/p/sys", name),),
        security={"sysctls": {"net.ipv4.ip_default_ttl": "77"}},
    )
    assert trap.read_text() == "trapped\n"
    # The network namespace's own: in ours, what the packets of its loopback carry.
    told = says(seen, "ping -c 1 127.0.0.1")
    assert "ttl=77" in told, told


@pytest.mark.parametrize("name", ["kernel.core_pattern", "vm.panic_on_oom", "fs.suid_dumpable"])
def test_sysctls_of_the_host_are_refused(instance: Instance, userns: Kind, name: str) -> None:
    with pytest.raises(SpecInvalid, match="belongs to the whole host"):
        box(instance, userns=userns, security={"sysctls": {name: "1"}})
