"""What a seccomp profile says, and the BPF program that says it to the kernel (seccomp(2), bpf(4) classic).

System calls are found by a binary search over ranges of numbers with the same verdict, so the filter costs a
dozen instructions. The host's own calls come first; a search of their own follows for the 32-bit programs
that it runs as well.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from runtime.kernel import syscall_table, syscall_table_32

ALLOW = 0x7FFF0000
ERRNO = 0x00050000  # and the number, in the lower 16 bits
EPERM, ENOSYS = 1, 38


@dataclass(frozen=True, slots=True)
class Arch:
    audit: int  # AUDIT_ARCH_* (linux/audit.h), by which the kernel tells the filter
    numbers: Mapping[str, int]
    name: str  # SCMP_ARCH_*
    docker: str = ""  # as `arches` of a rule has it
    second: Arch | None = None  # whose programs its kernel runs, too


I386 = Arch(0x40000003, syscall_table_32.I386, "SCMP_ARCH_X86")
ARM = Arch(0x40000028, syscall_table_32.ARM, "SCMP_ARCH_ARM")
ARCHES = {
    "x86_64": Arch(0xC000003E, syscall_table.X86_64, "SCMP_ARCH_X86_64", "amd64", I386),
    "aarch64": Arch(0xC00000B7, syscall_table.AARCH64, "SCMP_ARCH_AARCH64", "arm64", ARM),
}
_X32_BIT = 0x40000000

# BPF opcodes (linux/filter.h): load absolute word, and, jumps, return
_LD, _AND, _JA, _JEQ, _JGT, _JGE, _RET = 0x20, 0x54, 0x05, 0x15, 0x25, 0x35, 0x06
_NR_OFFSET, _ARCH_OFFSET, _ARGS_OFFSET = 0, 4, 16
_FAR = 255  # instructions, that a conditional jump reaches; the plain one reaches everything


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of one 64-bit argument. `op` is SCMP_CMP_*; `mask` for MASKED_EQ."""

    index: int
    op: str
    value: int
    mask: int = 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True, slots=True)
class Rule:
    action: int
    conditions: tuple[Condition, ...] = ()


@dataclass(slots=True)
class Profile:
    """Verdicts by system call name; the first rule whose conditions hold decides."""

    default: int = ERRNO | EPERM
    rules: dict[str, list[Rule]] = field(default_factory=dict)
    seconds: frozenset[str] = frozenset()  # SCMP_ARCH_* that it is for beside the host's own

    def add(self, names: Iterable[str], action: int, *conditions: Condition) -> None:
        for name in names:
            self.rules.setdefault(name, []).append(Rule(action, conditions))


_Instruction = tuple[int, int, int, int]  # code, jt, jf, k

# How each comparison falls out of JEQ / JGT / JGE on (high, low) words: see _compare.
COMPARE = {
    "SCMP_CMP_EQ",
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
}


def this_machine() -> str:
    """Which of ARCHES: this host's."""
    machine = os.uname().machine
    return machine if machine in ARCHES else "x86_64"


def assemble(profile: Profile, machine: str | None = None) -> bytes:
    """The program as struct sock_filter[]. Architectures that it is not for get ENOSYS, and so does x32."""
    own = ARCHES[machine or this_machine()]
    code: list[_Instruction] = [(_RET, 0, 0, ERRNO | ENOSYS)]
    if own.second and own.second.name in profile.seconds:
        _part(code, own.second, profile)
    _part(code, own, profile, [(_JGE, 0, 1, _X32_BIT), (_RET, 0, 0, ERRNO | ENOSYS)])
    code.append((_LD, 0, 0, _ARCH_OFFSET))
    return b"".join(struct.pack("=HBBI", c, t, f, k & 0xFFFFFFFF) for c, t, f, k in reversed(code))


# What follows writes `code` from its end, as jumps lead forward only: an instruction is where it lies in the
# list, and a jump from the next one to `target` is over `len(code) - 1 - target` others.


def _part(
    code: list[_Instruction], arch: Arch, profile: Profile, first: Iterable[_Instruction] = ()
) -> None:
    """The search of one architecture, passed by when the call is not one of its programs'."""
    others = len(code) - 1
    numbers = arch.numbers
    verdicts = {numbers[n]: tuple(rules) for n, rules in profile.rules.items() if n in numbers}
    _search(code, _ranges(verdicts, (Rule(profile.default),)), profile.default, {})
    code += reversed([(_LD, 0, 0, _NR_OFFSET), *first])
    _jump(code, _JEQ, arch.audit, len(code) - 1, others)


def _ranges(
    verdicts: dict[int, tuple[Rule, ...]], default: tuple[Rule, ...]
) -> list[tuple[int, tuple[Rule, ...]]]:
    """(first number, rules) of each run with the same rules, ascending from 0."""
    result = [(0, verdicts.get(0, default))]
    for number in sorted({n + step for n in verdicts for step in (0, 1)}):
        rules = verdicts.get(number, default)
        if result[-1][1] != rules:
            result.append((number, rules))
    return result


def _search(
    code: list[_Instruction],
    ranges: list[tuple[int, tuple[Rule, ...]]],
    default: int,
    returns: dict[int, int],
) -> int:
    """Where the search begins. `returns` tells where one verdict or another was written last."""
    if len(ranges) == 1:
        return _decide(code, ranges[0][1], default, returns)
    middle = len(ranges) // 2
    high = _search(code, ranges[middle:], default, returns)
    low = _search(code, ranges[:middle], default, returns)
    return _jump(code, _JGE, ranges[middle][0], high, low)


def _jump(code: list[_Instruction], test: int, value: int, true: int, false: int) -> int:
    """Where a conditional jump to `true` or to `false` was written."""
    while len(code) - 1 - min(true, false) > _FAR:
        far = min(true, false)
        operation, _, _, constant = code[far]
        # The verdict once more, or a plain jump, which reaches everything.
        step = (_RET, 0, 0, constant) if operation == _RET else (_JA, 0, 0, len(code) - 1 - far)
        code.append(step)
        here = len(code) - 1
        true, false = (here if true == far else true), (here if false == far else false)
    after = len(code) - 1
    code.append((test, after - true, after - false, value))
    return len(code) - 1


def _decide(
    code: list[_Instruction], rules: tuple[Rule, ...], default: int, returns: dict[int, int]
) -> int:
    if not rules[0].conditions and rules[0].action in returns:
        return returns[rules[0].action]
    part: list[_Instruction] = []
    last = default
    for rule in rules:
        if not rule.conditions:
            last = rule.action
            break
        body: list[_Instruction] = [(_RET, 0, 0, rule.action)]
        for condition in reversed(rule.conditions):
            body = [*_compare(condition, len(body)), *body]
        part += body
    code.append((_RET, 0, 0, last))
    returns[last] = len(code) - 1
    code += reversed(part)
    return len(code) - 1


def _compare(condition: Condition, length: int) -> list[_Instruction]:
    """Fall through to the `length` instructions after it when the condition holds, else jump over them."""
    offset = _ARGS_OFFSET + 8 * condition.index
    low, high = condition.value & 0xFFFFFFFF, condition.value >> 32
    load_high, load_low = (_LD, 0, 0, offset + 4), (_LD, 0, 0, offset)
    op = condition.op
    if op == "SCMP_CMP_MASKED_EQ":
        mask_low, mask_high = condition.mask & 0xFFFFFFFF, condition.mask >> 32
        return [
            load_high, (_AND, 0, 0, mask_high), (_JEQ, 0, length + 3, high),
            load_low, (_AND, 0, 0, mask_low), (_JEQ, 0, length, low),
        ]  # fmt: skip
    if op == "SCMP_CMP_EQ":
        return [load_high, (_JEQ, 0, length + 2, high), load_low, (_JEQ, 0, length, low)]
    if op == "SCMP_CMP_NE":
        return [load_high, (_JEQ, 0, 2, high), load_low, (_JEQ, length, 0, low)]
    jump = _JGE if op in ("SCMP_CMP_GE", "SCMP_CMP_LT") else _JGT
    if op in ("SCMP_CMP_GE", "SCMP_CMP_GT"):
        return [
            load_high, (_JGT, 3, 0, high), (_JEQ, 0, length + 2, high),
            load_low, (jump, 0, length, low),
        ]  # fmt: skip
    return [
        load_high, (_JGT, length + 3, 0, high), (_JEQ, 0, 2, high),
        load_low, (jump, length, 0, low),
    ]  # fmt: skip
