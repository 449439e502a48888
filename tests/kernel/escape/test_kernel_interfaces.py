"""Files of /proc and /sys, control groups, system calls and devices by which root inside would reach the host.

- CVE-2022-0492 (kernel): whoever could mount a version 1 cgroup hierarchy wrote its release_agent, which the host's
  root executes. Its kin: core_pattern, uevent_helper, modprobe, binfmt_misc, sysrq-trigger.
- "Shocker" (2014, Docker before 1.0): open_by_handle_at opens any file of the host's file system by its number.
- CVE-2022-0185, CVE-2021-31440, CVE-2022-2588 and many more (kernel): a namespace of one's own opens parts of
  the kernel that are full of faults; bpf, userfaultfd, keyctl (CVE-2016-0728), perf_event_open, io_uring
  (CVE-2022-29582) likewise.
- CVE-2026-31431 (kernel): sockets of the family AF_ALG wrote to the pages of files that could only be read.
- A node of the host's disk, made with mknod: what MKNOD is for, and why devices need a list.

Here: /proc/sys, /proc/irq and others and all of /sys are read-only (`runtime/engine/mounts.py`), and belong to
nobody inside where there is a user namespace. The default seccomp profile (`runtime/kernel/seccomp_default.py`)
lets through what Docker's does, less io_uring, to 32-bit programs by their own numbers; capabilities hold without
it. Devices are a list of the control group's (`runtime/cgroups/devices.py`).

Not defended: SYS_ADMIN, SYS_MODULE, SYS_RAWIO, DAC_READ_SEARCH, BPF … with the host's ids are what they say.
SYS_ADMIN in a user namespace may take off the masks; what they hide then asks for the host's root.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from runtime.kernel.syscall_table_32 import I386
from tests.support.elf import AT_FDCWD, RESULT, legacy, program, program32, supported
from tests.support.engine import Instance
from tests.support.escape import Kind, box, image, says
from tests.support.options import Seen

# Attacks would change the host, should they succeed: all have arguments with which nothing happens.
NOTHING = 0xFFFF_FFFF  # no descriptor
NEW_USER, NEW_NS = 0x10000000, 0x00020000
CALLS: dict[str, tuple[object, ...]] = {
    "bpf": (0, 0, 0),
    "add_key": (0, 0, 0, 0, 0),
    "request_key": (0, 0, 0, 0),
    "keyctl": (0xFFFF, 0, 0),
    "unshare": (NEW_USER,),
    "clone": (NEW_USER | NEW_NS | 17, 0, 0, 0, 0),
    "setns": (NOTHING, 0),
    "mount": (b"none", b"/tmp", b"tmpfs", 0, 0),
    "umount2": (b"/proc/sys", 0),
    "pivot_root": (b"/", b"/"),
    "open_tree": (AT_FDCWD, b"/", 1),
    "move_mount": (NOTHING, b"", NOTHING, b"", 4),
    "fsopen": (b"cgroup", 0),
    "fsmount": (NOTHING, 0, 0),
    "fsconfig": (NOTHING, 0, 0, 0, 0),
    "fspick": (AT_FDCWD, b"/", 0),
    "mount_setattr": (AT_FDCWD, b"/", 0, 0, 0),
    "open_by_handle_at": (AT_FDCWD, b"\x08\0\0\0\x01\0\0\0\x02\0\0\0\0\0\0\0", 0),
    "perf_event_open": (0, 0, 0, 0, 0),
    "userfaultfd": (0,),
    "io_uring_setup": (1, 0),
    "io_uring_enter": (NOTHING, 0, 0, 0, 0, 0),
    "io_uring_register": (NOTHING, 0, 0, 0),
    "init_module": (0, 0, b""),
    "finit_module": (NOTHING, b"", 0),
    "delete_module": (b"no-such-module", 0),
    "kexec_load": (0, 0, 0, 0),
    "kexec_file_load": (NOTHING, NOTHING, 0, b"", 0),
    "iopl": (3,),  # to give it up (0) is allowed to all
    "ioperm": (0, 1, 0),
    "acct": (0,),
    "swapon": (b"/no-such-file", 0),
    "swapoff": (b"/no-such-file",),
    "reboot": (0, 0, 0, 0),
    "settimeofday": (0, 0),
    "clock_settime": (0xFFFF, 0),
    "quotactl": (0, 0, 0, 0),
    "syslog": (10, 0, 0),
    "fanotify_init": (0xFFFF, 0),
    "kcmp": (1, 1, 0, 0, 0),
    "pidfd_getfd": (NOTHING, 0, 0),
    "vhangup": (),
    "nfsservctl": (0, 0, 0),
    "personality": (0x0040000,),  # no randomised addresses
}
# Refused by the kernel for want of a capability, when there is no filter.
WITHOUT_A_FILTER = [
    "setns_own",
    "mount",
    "umount2",
    "pivot_root",
    "open_tree",
    "open_by_handle_at",
    "init_module",
    "finit_module",
    "delete_module",
    "kexec_load",
    "swapon",
    "acct",
    "reboot",
    "iopl",
    "move_mount",
]

pytestmark = pytest.mark.skipif(not supported, reason="attacks are made of x86-64 code")


@pytest.fixture(scope="module")
def attacks(instance: Instance) -> str:
    """An image with a program for each call; its exit code is the errno."""
    programs = {name: program((name, *arguments)) for name, arguments in CALLS.items()}
    programs |= {
        "setns_own": program(("open", b"/proc/self/ns/net", 0), ("setns", RESULT, 0)),
        **{
            f"{name}_32": program32((name, *arguments))
            for name, arguments in CALLS.items()
            if name in I386
        },
        "vsock": program(("socket", 40, 1, 0)),
        "alg": program(("socket", 38, 5, 0)),
        "vsock_32": program32(("socket", 40, 1, 0)),
        "alg_32": program32(("socket", 38, 5, 0)),
        # The family lies behind a pointer, where no filter sees it.
        "sockets_32": program32(("socketcall", 1, bytes((38, 0, 0, 0, 5)) + bytes(8))),
        "says_32": program32(("write", 1, b"hello from 32 bits\n", 19)),
        "x32": program((0x40000000 | 165, 0, 0, 0, 0, 0)),
        "mount32": legacy(21),
        "bpf32": legacy(357),
        "getpid32": legacy(20),
        "clone3": program(("clone3", 0, 0)),
    }
    return image(instance, {f"attack/{name}": code for name, code in programs.items()})


@pytest.fixture(scope="module")
def armed(instance: Instance, attacks: str, userns: Kind) -> Seen:
    return box(instance, image=attacks, userns=userns)


def codes(seen: Seen, names: list[str]) -> dict[str, int]:
    """What each attack came to: an errno, or 128 and the signal that it died of."""
    script = f"for n in {' '.join(names)}; do /attack/$n; echo $n $?; done"
    lines = [line.split() for line in says(seen, script).splitlines()]
    return {words[0]: int(words[1]) for words in lines if len(words) == 2 and words[0] in names}


# -- system calls --------------------------------------------------------------------------------


def test_calls_that_lead_out_are_filtered(armed: Seen) -> None:
    found = codes(armed, list(CALLS))
    assert set(found) == set(CALLS)
    assert {name: code for name, code in found.items() if code != errno.EPERM} == {}


def test_other_doors_to_the_kernel_are_shut(armed: Seen) -> None:
    """The calls of other architectures, and sockets that lead to the kernel's parts or to other machines."""
    names = [
        "vsock",
        "alg",
        "vsock_32",
        "alg_32",
        "sockets_32",
        "x32",
        "mount32",
        "bpf32",
        "clone3",
    ]
    found = codes(armed, names)
    assert {found[n] for n in ("vsock", "alg", "vsock_32", "alg_32")} == {errno.EPERM}
    # The C library falls back to clone, whose flags the filter can see; to socket for its family.
    assert found["clone3"] == found["sockets_32"] == errno.ENOSYS
    for name in ("x32", "mount32", "bpf32"):
        assert found[name] in (errno.EPERM, errno.ENOSYS, 128 + 31), (name, found)


def test_32_bit_programs_run_and_are_refused_the_same_calls(armed: Seen) -> None:
    if "Exec format error" in (said := says(armed, "/attack/says_32")):
        pytest.skip("this kernel runs no 32-bit programs")
    assert said == "hello from 32 bits"
    names = [f"{name}_32" for name in CALLS if name in I386]
    found = codes(armed, names)
    assert len(found) == len(names) > 30
    assert {name: code for name, code in found.items() if code != errno.EPERM} == {}


def test_capabilities_hold_without_the_filter(
    instance: Instance, attacks: str, userns: Kind
) -> None:
    seen = box(instance, image=attacks, userns=userns, security={"seccomp": "unconfined"})
    found = codes(seen, WITHOUT_A_FILTER)
    refused = {name: code for name, code in found.items() if code in (errno.EPERM, errno.ENOSYS)}
    assert set(refused) == set(WITHOUT_A_FILTER), found


def test_no_namespace_is_made_and_none_is_entered(seen: Seen) -> None:
    flags = ("-U", "-Ur", "-m", "-p", "-n", "-i", "-u", "-C")
    for flag in flags:
        told = says(seen, f"unshare {flag} true").lower()
        assert "not permitted" in told or "invalid option" in told, (flag, told)
    for kind in ("mnt", "pid", "net", "user", "cgroup"):
        told = says(seen, f"nsenter --{'mount' if kind == 'mnt' else kind}=/proc/1/ns/{kind} true")
        assert told, kind


# -- files ---------------------------------------------------------------------------------------


def openable(seen: Seen, find: str) -> list[str]:
    """Files below that can be opened for writing; nothing is written."""
    script = f'{find} 2>/dev/null | while read f; do true >> "$f" && echo "$f"; done 2>/dev/null'
    return says(seen, script).splitlines()


def test_no_setting_of_the_kernel_can_be_written(seen: Seen) -> None:
    count = int(says(seen, "find /proc/sys -type f | wc -l"))
    assert count > 100
    assert openable(seen, "find /proc/sys -type f") == []


def test_nothing_in_sys_can_be_written(seen: Seen) -> None:
    assert int(says(seen, "find /sys -maxdepth 4 -type f | wc -l")) > 100
    assert openable(seen, "find /sys -maxdepth 4 -type f -perm -200") == []
    told = says(seen, "for d in $(find /sys/fs/cgroup -maxdepth 1 -type d); do mkdir $d/x; done")
    assert told.count("Read-only file system") == len(told.splitlines()) > 0


def test_little_else_in_proc_can_be_written(seen: Seen) -> None:
    """What can be opened asks for capabilities when it is written to."""
    opened = openable(seen, "find /proc -maxdepth 1 -type f -perm -200")
    assert set(opened) <= {"/proc/mtrr"}
    for path in opened:
        assert "permitted" in says(seen, f"echo 'disable=99' > {path}"), path


@pytest.mark.parametrize(
    "path",
    [
        "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hotplug",
        "/proc/sys/vm/panic_on_oom", "/proc/sys/fs/binfmt_misc/register", "/proc/sysrq-trigger",
        "/sys/kernel/uevent_helper", "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/fs/cgroup/memory/release_agent", "/sys/fs/cgroup/memory/cgroup.procs",
        "/sys/fs/cgroup/devices/devices.allow", "/sys/fs/cgroup/cgroup.procs",
        "/sys/power/state", "/sys/class/net/lo/mtu", "/sys/module/kernel/parameters/panic",
    ],
)  # fmt: skip
def test_files_that_are_known_ways_out_are_shut(seen: Seen, path: str) -> None:
    told = says(seen, f"test -e {path} && true >> {path} && echo opened")
    assert "opened" not in told


def test_the_host_s_memory_and_messages_are_not_read(seen: Seen) -> None:
    for path in ("/proc/kcore", "/proc/kmsg", "/dev/mem", "/dev/kmsg", "/sys/kernel/debug/x"):
        assert says(seen, f"head -c 1 {path} 2>/dev/null | wc -c") == "0", path
    addresses = says(seen, "cut -d' ' -f1 /proc/kallsyms | sort -u | head -2").split()
    assert addresses in ([], ["0" * 16])


# -- control groups ------------------------------------------------------------------------------


@pytest.mark.parametrize("options", ["memory", "rdma", "devices", "none,name=slipway-test"])
def test_no_hierarchy_is_mounted(seen: Seen, options: str) -> None:
    script = f"mkdir -p /tmp/c; mount -t cgroup -o {options} x /tmp/c; ls /tmp/c"
    told = says(seen, script).lower()
    assert "denied" in told or "not permitted" in told, told
    assert "release_agent" not in told


@pytest.mark.parametrize("seccomp", ["default", "unconfined"])
def test_who_may_mount_still_writes_no_release_agent(instance: Instance, seccomp: str) -> None:
    """CVE-2022-0492: SYS_ADMIN of the container's own user namespace is no SYS_ADMIN of the host's."""
    seen = box(instance, security={"cap_add": ("SYS_ADMIN",), "seccomp": seccomp})
    assert int(seen.proc("uid_map").split()[1]) > 0
    script = """
        mkdir -p /tmp/c
        for o in memory devices cpu rdma freezer none,name=slipway-test; do
            mount -t cgroup -o $o x /tmp/c && test -e /tmp/c/release_agent &&
                true >> /tmp/c/release_agent && echo opened $o
            umount /tmp/c
        done
        mount -t cgroup2 x /tmp/c && mkdir /tmp/c/new && echo made
    """
    told = says(seen, script)
    assert "opened" not in told
    assert "made" not in told


def test_who_may_mount_finds_little_behind_the_masks(instance: Instance) -> None:
    """Masks can be taken off with SYS_ADMIN. The files belong to the host's root all the same."""
    seen = box(instance, security={"cap_add": ("SYS_ADMIN",), "seccomp": "unconfined"})
    told = says(
        seen,
        """
        for p in /proc/kcore /proc/sys /proc/sysrq-trigger /proc/keys /sys /proc/irq; do
            umount -l $p; mount -o remount,rw $p; mount -o remount,rw,bind $p
        done 2>/dev/null
        mkdir -p /tmp/p; mount -t proc x /tmp/p
        for f in /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sysrq-trigger \
            /sys/kernel/uevent_helper /proc/irq/default_smp_affinity /tmp/p/sys/kernel/core_pattern; do
            test -e $f && true >> $f && echo opened $f
        done 2>/dev/null
        head -c 1 /proc/kcore | wc -c
        """,
    )
    assert "opened" not in told
    assert told.splitlines()[-1] == "0"


# -- devices and processes -----------------------------------------------------------------------

# A disk, memory, the kernel's messages, a port, a loop device, a mapper, FUSE, a terminal of the host's.
NODES = ("b 8 0", "b 254 0", "b 259 0", "b 7 0", "c 1 1", "c 1 2", "c 1 4", "c 1 11", "c 10 237", "c 10 236",
         "c 10 229", "c 4 0", "c 5 1", "c 10 232")  # fmt: skip


def test_devices_of_the_host_open_for_nobody(seen: Seen, userns: Kind) -> None:
    name = "/tmp/node"
    for node in NODES:
        script = f"mknod {name} {node} && true < {name} && echo opened; rm -f {name}"
        told = says(seen, script)
        # Without the host's ids there is nobody who may make one.
        assert "not permitted" in told, (node, told)
        assert "opened" not in told
        assert ("mknod" in told) == (not userns), told


def test_the_list_of_devices_cannot_be_made_longer(seen: Seen) -> None:
    told = says(seen, "for f in /sys/fs/cgroup/devices/*; do echo a > $f && echo done $f; done")
    assert "done" not in told


def test_processes_of_the_host_are_not_seen(seen: Seen) -> None:
    """Neither those of other containers: ptrace, signals and /proc/<pid> know only what is here."""
    inside = {int(p) for p in says(seen, "cd /proc; echo [0-9]*").split()}
    assert os.getpid() not in inside
    assert max(inside) < 1000
    there = Path(f"/proc/{seen.pid}/status").read_text()
    assert "NSpid:\t" in there
    assert says(seen, f"kill -0 {os.getpid()}").endswith("No such process")
    assert says(seen, "cat /proc/1/comm") == "sleep"
