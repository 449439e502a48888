"""What the compiled seccomp filters let through."""

from __future__ import annotations

import json
import struct
import types
from typing import Any

import pytest

from runtime.errors import SpecInvalid
from runtime.kernel import capabilities, seccomp
from runtime.kernel.seccomp_program import assemble
from runtime.kernel.syscall_table import AARCH64, X86_64
from runtime.kernel.syscall_table_32 import ARM, I386
from tests.support import bpf

ALLOW = 0x7FFF0000
EPERM, ENOSYS = 0x00050001, 0x00050026
DEFAULT_CAPS = capabilities.mask(capabilities.DEFAULT)
CLONE_NEWUSER, CLONE_NEWNS, CLONE_THREAD_FLAGS = 0x10000000, 0x00020000, 0x3D0F00


def default(*added: str, machine: str = "x86_64") -> bytes:
    caps = DEFAULT_CAPS | capabilities.mask(added)
    return assemble(seccomp.default_profile(caps), machine)


def verdict(program: bytes, name: str, *args: int) -> int:
    return bpf.evaluate(program, X86_64[name], *args)


def verdict32(program: bytes, name: str, *args: int) -> int:
    """As an i386 program is answered."""
    return bpf.evaluate(program, I386[name], *args, arch=bpf.I386)


@pytest.mark.parametrize(
    "name", ["read", "write", "execve", "openat2", "futex", "epoll_wait", "ptrace", "clone"]
)
def test_everyday_calls_pass(name: str) -> None:
    assert verdict(default(), name) == ALLOW


@pytest.mark.parametrize(
    "name",
    [
        "mount", "umount2", "pivot_root", "move_mount", "open_tree", "setns", "unshare", "bpf",
        "perf_event_open", "init_module", "kexec_load", "reboot", "swapon", "settimeofday",
        "add_key", "keyctl", "request_key", "userfaultfd", "io_uring_setup", "open_by_handle_at",
        "syslog", "quotactl", "acct", "iopl", "nfsservctl", "vhangup", "lookup_dcookie",
    ],
)  # fmt: skip
def test_calls_that_reach_into_the_host_are_refused(name: str) -> None:
    assert verdict(default(), name) == EPERM


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        ("SYS_ADMIN", "mount"), ("SYS_ADMIN", "setns"), ("SYS_ADMIN", "unshare"),
        ("SYS_BOOT", "reboot"), ("SYS_MODULE", "init_module"), ("SYS_PTRACE", "kcmp"),
        ("SYS_TIME", "settimeofday"), ("SYSLOG", "syslog"), ("BPF", "bpf"),
        ("PERFMON", "perf_event_open"), ("DAC_READ_SEARCH", "open_by_handle_at"),
        ("SYS_NICE", "set_mempolicy"), ("SYS_RAWIO", "iopl"), ("SYS_PACCT", "acct"),
    ],
)  # fmt: skip
def test_a_capability_brings_its_calls(capability: str, name: str) -> None:
    assert verdict(default(), name) == EPERM
    assert verdict(default(capability), name) == ALLOW


def test_threads_and_processes_may_be_made_but_no_namespaces() -> None:
    program = default()
    assert verdict(program, "clone", CLONE_THREAD_FLAGS) == ALLOW
    assert verdict(program, "clone", CLONE_NEWUSER | 17) == EPERM
    assert verdict(program, "clone", CLONE_NEWNS) == EPERM
    # The C library then takes clone(2), whose flags can be looked at.
    assert verdict(program, "clone3") == ENOSYS
    admin = default("SYS_ADMIN")
    assert verdict(admin, "clone", CLONE_NEWUSER) == ALLOW
    assert verdict(admin, "clone3") == ALLOW


def test_flags_hidden_in_the_upper_half_do_not_pass_as_others() -> None:
    # clone takes an unsigned long: what is above 32 bits must not hide what is below.
    assert verdict(default(), "clone", (1 << 32) | CLONE_NEWUSER) == EPERM


@pytest.mark.parametrize("value", [0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF])
def test_known_personalities_pass(value: int) -> None:
    assert verdict(default(), "personality", value) == ALLOW


@pytest.mark.parametrize("value", [0x40000, 0x4, 0x0040000 | 0x8, 1 << 32])
def test_other_personalities_do_not(value: int) -> None:
    assert verdict(default(), "personality", value) == EPERM


def test_sockets_of_every_family_but_those_that_lead_out() -> None:
    for family in (1, 2, 10, 16, 17, 39):
        assert verdict(default(), "socket", family) == ALLOW
    for family in (38, 40):
        assert verdict(default(), "socket", family) == EPERM
        assert verdict(default(), "socket", 1 << 32 | family) == EPERM
        assert verdict32(default(), "socket", family) == EPERM


def test_x32_and_unknown_architectures_are_closed() -> None:
    """x32 numbers its calls differently: a filter by numbers must not meet them."""
    program = default()
    assert bpf.evaluate(program, 0x40000000 | X86_64["read"]) == ENOSYS
    assert bpf.evaluate(program, 0xFFFFFFFF) == ENOSYS
    assert bpf.evaluate(program, 1, arch=0x80000016) == ENOSYS


def test_a_call_from_the_future_is_refused() -> None:
    assert bpf.evaluate(default(), 9999) == EPERM


def test_arm_has_its_own_numbers() -> None:
    program = default(machine="aarch64")
    for name, expected in (("openat", ALLOW), ("mount", EPERM), ("clone3", ENOSYS)):
        assert bpf.evaluate(program, AARCH64[name], arch=bpf.AARCH64) == expected
    assert bpf.evaluate(program, 0, arch=bpf.X86_64) == ENOSYS


def test_32_bit_programs_are_held_to_the_same_by_their_own_numbers() -> None:
    program = default()
    for name in (
        "read",
        "write",
        "execve",
        "mmap2",
        "stat64",
        "set_thread_area",
        "clock_gettime64",
    ):
        assert verdict32(program, name) == ALLOW, name
    for name in ("mount", "umount", "umount2", "unshare", "bpf", "stime", "vm86", "keyctl"):
        assert verdict32(program, name) == EPERM, name
    assert verdict32(program, "clone", CLONE_NEWUSER) == EPERM
    assert verdict32(program, "clone3") == ENOSYS
    assert verdict32(default("SYS_ADMIN"), "umount") == ALLOW
    assert bpf.evaluate(program, 9999, arch=bpf.I386) == EPERM


def test_a_number_means_what_it_means_to_the_program_that_uses_it() -> None:
    """11 is munmap to one and execve to the other, 21 access and mount."""
    program = default()
    assert X86_64["access"] == I386["mount"] == 21
    assert bpf.evaluate(program, 21) == ALLOW
    assert bpf.evaluate(program, 21, arch=bpf.I386) == EPERM


def test_no_socket_is_made_where_its_family_cannot_be_seen() -> None:
    program = default()
    socket, connect = 1, 3
    assert verdict32(program, "socketcall", socket) == ENOSYS
    assert verdict32(program, "socketcall", connect) == ALLOW


def test_the_host_s_own_calls_are_found_first() -> None:
    """The first jump leads past what is for others."""
    code = list(struct.iter_unpack("=HBBI", default()))
    assert code[1][3] == bpf.X86_64


def test_arm_programs_run_beside_those_of_aarch64() -> None:
    program = default(machine="aarch64")
    for name, expected in (("open", ALLOW), ("cacheflush", ALLOW), ("mount", EPERM)):
        assert bpf.evaluate(program, ARM[name], arch=bpf.ARM) == expected


def test_the_kernel_takes_a_program_of_this_size() -> None:
    assert len(default()) // 8 < 4096
    assert len(default("ALL")) // 8 < 4096


def test_unconfined_is_no_program() -> None:
    assert seccomp.compile_profile("unconfined", DEFAULT_CAPS) is None


# -- profiles of one's own -----------------------------------------------------------------------


def compiled(
    *syscalls: dict[str, Any], default_action: str = "SCMP_ACT_ERRNO", **more: Any
) -> bytes:
    text = json.dumps({"defaultAction": default_action, "syscalls": list(syscalls), **more})
    return assemble(seccomp.parse_profile(text, DEFAULT_CAPS), "x86_64")


def test_a_profile_may_refuse_with_an_errno_of_its_own() -> None:
    rule = {"names": ["chmod"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}
    program = compiled(rule, default_action="SCMP_ACT_ALLOW")
    assert verdict(program, "chmod") == 0x00050000 | 95
    assert verdict(program, "chown") == ALLOW


def test_conditions_on_different_arguments_must_all_hold() -> None:
    args = [
        {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"},
        {"index": 1, "value": 3, "op": "SCMP_CMP_GT"},
    ]
    program = compiled({"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": args})
    assert verdict(program, "socket", 2, 4) == ALLOW
    assert verdict(program, "socket", 2, 3) == EPERM
    assert verdict(program, "socket", 1, 4) == EPERM


def test_conditions_on_the_same_argument_are_alternatives() -> None:
    args = [{"index": 0, "value": v, "op": "SCMP_CMP_EQ"} for v in (1, 2)]
    program = compiled({"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": args})
    assert [verdict(program, "socket", v) for v in (1, 2, 3)] == [ALLOW, ALLOW, EPERM]


def test_a_masked_comparison_is_docker_s() -> None:
    arg = {"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    program = compiled({"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [arg]})
    assert verdict(program, "clone", 17) == ALLOW
    assert verdict(program, "clone", CLONE_NEWUSER) == EPERM


def test_rules_can_depend_on_capabilities_and_architecture() -> None:
    program = compiled(
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["chroot"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_CHROOT"]}},
        {"names": ["clone3"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_CHOWN"]}},
        {"names": ["open"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390x"]}},
    )
    names = ("mount", "chroot", "clone3", "open")
    assert [verdict(program, n) for n in names] == [EPERM, ALLOW, EPERM, EPERM]


def test_rules_can_depend_on_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Docker's own profile has it for ptrace."""
    rules = (
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"names": ["kcmp"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "5.10"}},
        {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}},
    )
    for release, expected in (
        ("6.1.0-9-amd64", [ALLOW, EPERM, EPERM]),
        ("4.7", [EPERM, ALLOW, EPERM]),
    ):
        facts = types.SimpleNamespace(release=release, machine="x86_64")
        monkeypatch.setattr("os.uname", lambda facts=facts: facts)
        program = compiled(*rules)
        assert [verdict(program, n) for n in ("ptrace", "kcmp", "bpf")] == expected


def test_a_tracer_is_told_the_number_of_the_rule() -> None:
    program = compiled({"names": ["chmod"], "action": "SCMP_ACT_TRACE", "errnoRet": 7})
    assert verdict(program, "chmod") == 0x7FF00007


READ = {"names": ["read"], "action": "SCMP_ACT_ALLOW"}
X86: dict[str, Any] = {"architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]}


def test_a_profile_names_the_other_architectures_that_it_is_for() -> None:
    own = "SCMP_ARCH_X86_64"
    docker: dict[str, Any] = {
        "archMap": [{"architecture": own, "subArchitectures": ["SCMP_ARCH_X86"]}]
    }
    for more in (X86, docker):
        program = compiled(READ, **more)
        assert verdict(program, "read") == verdict32(program, "read") == ALLOW
        assert verdict32(program, "write") == EPERM
    others: list[dict[str, Any]] = [
        {},
        {"architectures": [own]},
        {"archMap": [{"architecture": own, "subArchitectures": None}]},
        {"archMap": [{"architecture": "SCMP_ARCH_ARM", "subArchitectures": ["SCMP_ARCH_X86"]}]},
    ]
    for other in others:
        program = compiled(READ, **other)
        assert verdict(program, "read") == ALLOW
        assert verdict32(program, "read") == ENOSYS


@pytest.mark.parametrize(
    ("default_action", "action", "args", "expected"),
    [
        ("SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", None, ALLOW),
        ("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", None, EPERM),
        # What is asked of it lies behind a pointer there.
        ("SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", 5, EPERM),
        ("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", 5, EPERM),
    ],
)
@pytest.mark.parametrize(
    ("name", "one", "number"), [("connect", "socketcall", 3), ("shmat", "ipc", 21)]
)
def test_what_is_said_of_a_call_holds_where_it_is_one_of_many(
    default_action: str, action: str, args: int | None, expected: int, name: str, one: str, number: int
) -> None:  # fmt: skip
    rule: dict[str, Any] = {"names": [name], "action": action}
    if args is not None:
        rule["args"] = [{"index": 0, "value": args, "op": "SCMP_CMP_EQ"}]
    program = compiled(rule, default_action=default_action, **X86)
    assert verdict32(program, one, number) == expected
    # Another one is as good as not named; a version in the upper half of ipc's hides nothing.
    other = ALLOW if default_action == "SCMP_ACT_ALLOW" else EPERM
    assert verdict32(program, one, number + 1) == other
    if one == "ipc":
        assert verdict32(program, one, 1 << 16 | number) == expected


def test_docker_s_own_profile_leaves_sockets_to_32_bit_programs() -> None:
    """It lets all of socketcall through, and asks for the family where that can be seen."""
    args = [{"index": 0, "value": 40, "op": "SCMP_CMP_NE"}]
    program = compiled(
        {"names": ["socketcall", "connect"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": args},
        **X86,
    )
    assert verdict32(program, "socketcall", 1) == ALLOW
    assert verdict32(program, "socket", 40) == EPERM


def test_unknown_calls_in_a_profile_are_passed_over() -> None:
    program = compiled({"names": ["no_such_call", "read"], "action": "SCMP_ACT_ALLOW"})
    assert verdict(program, "read") == ALLOW


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "[]",
        "{}",
        '{"defaultAction": "SCMP_ACT_NONSENSE"}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"]}]}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "FLY"}]}',
        '{"defaultAction": "SCMP_ACT_NOTIFY"}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["i386"]}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "architectures": [32]}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "archMap": [{}]}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "archMap": [{}]}',
        '{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 2147418112}',
        *(
            '{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": '
            f'"SCMP_ACT_ALLOW", {more}}}]}}'
            for more in (
                '"args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]',
                '"args": [{"index": 0, "value": 18446744073709551616, "op": "SCMP_CMP_EQ"}]',
                '"args": [{"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}]',
                '"includes": {"minKernel": "new"}',
            )
        ),
    ],
)
def test_a_profile_that_cannot_be_read_names_its_field(text: str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        seccomp.compile_profile(text, DEFAULT_CAPS)
    assert caught.value.field == "security.seccomp"


def test_an_unknown_comparison_is_refused() -> None:
    args = [{"index": 0, "value": 1, "op": "LIKE"}]
    with pytest.raises(SpecInvalid, match="LIKE"):
        compiled({"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": args})
