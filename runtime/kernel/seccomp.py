"""Seccomp profiles to BPF programs (seccomp(2), bpf(4) classic).

A profile is Docker's default, an OCI / Docker JSON document, or none. System calls are found by a
binary search over ranges of numbers with the same verdict, so the filter costs a dozen instructions.
"""

from __future__ import annotations

import functools
import json
import os
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from runtime.errors import SpecInvalid
from runtime.kernel import capabilities, seccomp_default, syscall_table

ALLOW = 0x7FFF0000
_ERRNO, _KILL_PROCESS, _KILL_THREAD = 0x00050000, 0x80000000, 0x00000000
_TRAP, _LOG, _TRACE = 0x00030000, 0x7FFC0000, 0x7FF00000
_EPERM, _ENOSYS = 1, 38
_MAX_ERRNO, _ARGS, _WORD = 4095, 6, 2**64 - 1
_ACTIONS = {
    "SCMP_ACT_ALLOW": ALLOW,
    "SCMP_ACT_ERRNO": _ERRNO,
    "SCMP_ACT_KILL": _KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": _KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": _KILL_PROCESS,
    "SCMP_ACT_TRAP": _TRAP,
    "SCMP_ACT_LOG": _LOG,
    "SCMP_ACT_TRACE": _TRACE,
}
_ARCHES = {
    "x86_64": (0xC000003E, syscall_table.X86_64, "amd64"),
    "aarch64": (0xC00000B7, syscall_table.AARCH64, "arm64"),
}
_X32_BIT = 0x40000000

# BPF opcodes (linux/filter.h): load absolute word, and, jumps, return
_LD, _AND, _JA, _JEQ, _JGT, _JGE, _RET = 0x20, 0x54, 0x05, 0x15, 0x25, 0x35, 0x06
_NR_OFFSET, _ARCH_OFFSET, _ARGS_OFFSET = 0, 4, 16


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

    default: int = _ERRNO | _EPERM
    rules: dict[str, list[Rule]] = field(default_factory=dict)

    def add(self, names: Iterable[str], action: int, *conditions: Condition) -> None:
        for name in names:
            self.rules.setdefault(name, []).append(Rule(action, conditions))


def compile_profile(text: str, caps: int) -> bytes | None:
    """BPF program for "default", "unconfined" (None) or a JSON profile, given the container's capabilities.

    Raises SpecInvalid("security.seccomp") for a profile that cannot be read.
    """
    if text == "unconfined":
        return None
    return _compiled(text, caps)


@functools.lru_cache(maxsize=64)
def _compiled(text: str, caps: int) -> bytes:
    profile = default_profile(caps) if text in ("", "default") else parse_profile(text, caps)
    return assemble(profile)


def default_profile(caps: int) -> Profile:
    profile = Profile()
    held = {n for n, bit in capabilities.NUMBERS.items() if caps >> bit & 1}
    profile.add(seccomp_default.ALLOW, ALLOW)
    for capability, names in seccomp_default.WITH_CAPABILITY.items():
        if capability in held:
            profile.add(names.split(), ALLOW)
    if "SYS_ADMIN" not in held:
        flags = Condition(0, "SCMP_CMP_MASKED_EQ", 0, seccomp_default.CLONE_NAMESPACES)
        profile.add(["clone"], ALLOW, flags)
        # C libraries fall back to clone(2), whose flags a filter can see, only on ENOSYS.
        profile.add(["clone3"], _ERRNO | _ENOSYS)
    # The kernel reads 32 bits of the family: compared as 64, a stray upper bit would let it pass.
    vsock = Condition(0, "SCMP_CMP_MASKED_EQ", seccomp_default.AF_VSOCK, 0xFFFFFFFF)
    profile.add(["socket"], _ERRNO | _EPERM, vsock)
    profile.add(["socket"], ALLOW)
    for value in seccomp_default.PERSONALITIES:
        profile.add(["personality"], ALLOW, Condition(0, "SCMP_CMP_EQ", value))
    return profile


def parse_profile(text: str, caps: int) -> Profile:
    """A profile as Docker and the OCI runtime spec write it. Unknown system calls are passed over."""
    try:
        data = json.loads(text)
        profile = Profile(_action(data["defaultAction"], data.get("defaultErrnoRet")))
        for entry in data.get("syscalls", []):
            if _applies(entry, caps):
                names = entry.get("names") or [entry["name"]]
                action = _action(entry["action"], entry.get("errnoRet"))
                for conditions in _alternatives(entry.get("args") or ()):
                    profile.add(names, action, *conditions)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SpecInvalid(
            "security.seccomp",
            f"The seccomp profile cannot be read: {error!r}.",
            hint='Give "default", "unconfined" or a JSON profile with defaultAction and syscalls.',
        ) from error
    return profile


def _action(name: str, errno: int | None) -> int:
    """The verdict; `errno` comes with SCMP_ACT_ERRNO, and to a tracer with SCMP_ACT_TRACE."""
    if name == "SCMP_ACT_NOTIFY":
        raise ValueError("SCMP_ACT_NOTIFY needs a program beside the container that decides")
    action = _ACTIONS[name]
    if action not in (_ERRNO, _TRACE):
        return action
    number = _EPERM if errno is None else int(errno)
    if not 0 <= number <= _MAX_ERRNO:
        raise ValueError(f"errnoRet {number} is no errno")
    return action | number


def _alternatives(args: Iterable[dict[str, Any]]) -> list[tuple[Condition, ...]]:
    """One rule with all conditions; with two on the same argument one rule each, as the field has it.

    That is how runc reads such profiles, and how Docker's own was written for years.
    """
    conditions = tuple(_condition(a) for a in args)
    if len({c.index for c in conditions}) < len(conditions):
        return [(condition,) for condition in conditions]
    return [conditions]


def _condition(data: dict[str, Any]) -> Condition:
    value, second, index = int(data["value"]), int(data.get("valueTwo") or 0), int(data["index"])
    if not 0 <= index < _ARGS:
        raise ValueError(f"a system call has no argument {index}")
    if not (0 <= value <= _WORD and 0 <= second <= _WORD):
        raise ValueError("a value is larger than 64 bits")
    if data["op"] == "SCMP_CMP_MASKED_EQ":
        return Condition(index, data["op"], second, value)
    if data["op"] not in _COMPARE:
        raise KeyError(data["op"])
    return Condition(index, data["op"], value)


def _applies(entry: dict[str, Any], caps: int) -> bool:
    arch = _ARCHES[_machine()][2]
    includes, excludes = entry.get("includes") or {}, entry.get("excludes") or {}
    has = {c for c in _caps(includes) | _caps(excludes) if caps >> capabilities.number(c) & 1}
    return (
        _caps(includes) <= has
        and not (_caps(excludes) & has)
        and (not includes.get("arches") or arch in includes["arches"])
        and arch not in (excludes.get("arches") or ())
        and _kernel_is(includes.get("minKernel") or "0.0")
        and not (excludes.get("minKernel") and _kernel_is(excludes["minKernel"]))
    )


def _kernel_is(least: str) -> bool:
    """This kernel is `least` ("4.8") or newer."""
    return _version(os.uname().release) >= _version(least)


def _version(text: str) -> tuple[int, int]:
    if (found := re.match(r"(\d+)\.(\d+)", text, re.ASCII)) is None:
        raise ValueError(f"{text!r} is no version of a kernel")
    return int(found[1]), int(found[2])


def _caps(block: dict[str, Any]) -> set[str]:
    return set(block.get("caps") or ())


def _machine() -> str:
    machine = os.uname().machine
    return machine if machine in _ARCHES else "x86_64"


# -- assembling ----------------------------------------------------------------------------------

_Instruction = tuple[int, int, int, int]  # code, jt, jf, k

# How each comparison falls out of JEQ / JGT / JGE on (high, low) words: see _compare.
_COMPARE = {
    "SCMP_CMP_EQ",
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
}


def assemble(profile: Profile, machine: str | None = None) -> bytes:
    """The program as struct sock_filter[]. Foreign architectures and x32 get ENOSYS."""
    arch, table, _ = _ARCHES[machine or _machine()]
    verdicts = {table[n]: tuple(rules) for n, rules in profile.rules.items() if n in table}
    ranges = _ranges(verdicts, (Rule(profile.default),))
    code: list[_Instruction] = [(_LD, 0, 0, _ARCH_OFFSET), (_JEQ, 1, 0, arch)]
    code += [(_RET, 0, 0, _ERRNO | _ENOSYS), (_LD, 0, 0, _NR_OFFSET)]
    code += [(_JGE, 0, 1, _X32_BIT), (_RET, 0, 0, _ERRNO | _ENOSYS)]
    code += _search(ranges, profile.default)
    return b"".join(struct.pack("=HBBI", c, jt, jf, k & 0xFFFFFFFF) for c, jt, jf, k in code)


def _ranges(
    verdicts: dict[int, tuple[Rule, ...]], default: tuple[Rule, ...]
) -> list[tuple[int, tuple[Rule, ...]]]:
    """(first number, rules) of each run with the same rules, ascending from 0."""
    result: list[tuple[int, tuple[Rule, ...]]] = []
    for number in range(max(verdicts, default=0) + 2):
        rules = verdicts.get(number, default)
        if not result or result[-1][1] != rules:
            result.append((number, rules))
    return result


def _search(ranges: list[tuple[int, tuple[Rule, ...]]], default: int) -> list[_Instruction]:
    if len(ranges) == 1:
        return _decide(ranges[0][1], default)
    middle = len(ranges) // 2
    low, high = _search(ranges[:middle], default), _search(ranges[middle:], default)
    # A conditional jump reaches 255 instructions only; the plain one after it reaches everything.
    return [(_JGE, 0, 1, ranges[middle][0]), (_JA, 0, 0, len(low)), *low, *high]


def _decide(rules: tuple[Rule, ...], default: int) -> list[_Instruction]:
    code: list[_Instruction] = []
    for rule in rules:
        if not rule.conditions:
            return [*code, (_RET, 0, 0, rule.action)]
        body: list[_Instruction] = [(_RET, 0, 0, rule.action)]
        for condition in reversed(rule.conditions):
            body = [*_compare(condition, len(body)), *body]
        code += body
    return [*code, (_RET, 0, 0, default)]


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
