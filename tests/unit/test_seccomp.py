"""What the compiled seccomp filters let through."""

from __future__ import annotations

import json
import types
from typing import Any

import pytest

from runtime.errors import SpecInvalid
from runtime.kernel import capabilities, seccomp
from runtime.kernel.syscall_table import AARCH64, X86_64
from tests.support import bpf

ALLOW = 0x7FFF0000
EPERM, ENOSYS = 0x00050001, 0x00050026
DEFAULT_CAPS = capabilities.mask(capabilities.DEFAULT)
CLONE_NEWUSER, CLONE_NEWNS, CLONE_THREAD_FLAGS = 0x10000000, 0x00020000, 0x3D0F00


def default(*added: str, machine: str = "x86_64") -> bytes:
    caps = DEFAULT_CAPS | capabilities.mask(added)
    return seccomp.assemble(seccomp.default_profile(caps), machine)


def verdict(program: bytes, name: str, *args: int) -> int:
    return bpf.evaluate(program, X86_64[name], *args)


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


def test_sockets_of_every_family_but_the_hypervisors() -> None:
    for family in (1, 2, 10, 16, 17, 38):
        assert verdict(default(), "socket", family) == ALLOW
    assert verdict(default(), "socket", 40) == EPERM
    assert verdict(default(), "socket", 1 << 32 | 40) == EPERM


def test_the_other_tables_of_calls_are_closed() -> None:
    """i386 and x32 number their calls differently: a filter by numbers must not meet them."""
    program = default()
    assert bpf.evaluate(program, 1, arch=bpf.I386) == ENOSYS
    assert bpf.evaluate(program, 0x40000000 | X86_64["read"]) == ENOSYS
    assert bpf.evaluate(program, 0xFFFFFFFF) == ENOSYS


def test_a_call_from_the_future_is_refused() -> None:
    assert bpf.evaluate(default(), 9999) == EPERM


def test_arm_has_its_own_numbers() -> None:
    program = default(machine="aarch64")
    for name, expected in (("openat", ALLOW), ("mount", EPERM), ("clone3", ENOSYS)):
        assert bpf.evaluate(program, AARCH64[name], arch=bpf.AARCH64) == expected
    assert bpf.evaluate(program, 0, arch=bpf.X86_64) == ENOSYS


def test_the_kernel_takes_a_program_of_this_size() -> None:
    assert len(default()) // 8 < 4096
    assert len(default("ALL")) // 8 < 4096


def test_unconfined_is_no_program() -> None:
    assert seccomp.compile_profile("unconfined", DEFAULT_CAPS) is None


# -- profiles of one's own -----------------------------------------------------------------------


def compiled(*syscalls: dict[str, Any], default_action: str = "SCMP_ACT_ERRNO") -> bytes:
    text = json.dumps({"defaultAction": default_action, "syscalls": list(syscalls)})
    return seccomp.assemble(seccomp.parse_profile(text, DEFAULT_CAPS), "x86_64")


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
