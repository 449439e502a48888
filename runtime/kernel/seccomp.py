"""Seccomp profiles: Docker's default, an OCI / Docker JSON document, or none."""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from runtime.errors import SpecInvalid
from runtime.kernel import capabilities, seccomp_default, syscall_table
from runtime.kernel.seccomp_program import (
    ALLOW,
    ARCHES,
    ARM,
    COMPARE,
    ENOSYS,
    EPERM,
    ERRNO,
    I386,
    Condition,
    Profile,
    Rule,
    assemble,
    this_machine,
)

_KILL_PROCESS, _KILL_THREAD = 0x80000000, 0x00000000
_TRAP, _LOG, _TRACE = 0x00030000, 0x7FFC0000, 0x7FF00000
_MAX_ERRNO, _ARGS, _WORD = 4095, 6, 2**64 - 1
_ACTIONS = {
    "SCMP_ACT_ALLOW": ALLOW,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_KILL": _KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": _KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": _KILL_PROCESS,
    "SCMP_ACT_TRAP": _TRAP,
    "SCMP_ACT_LOG": _LOG,
    "SCMP_ACT_TRACE": _TRACE,
}
# Numbers within socketcall(2) and ipc(2), which i386 had before it got calls for each (linux/net.h, linux/ipc.h).
_SOCKETCALL = syscall_table.parse("""
    socket:1 bind:2 connect:3 listen:4 accept:5 getsockname:6 getpeername:7 socketpair:8 send:9
    recv:10 sendto:11 recvfrom:12 shutdown:13 setsockopt:14 getsockopt:15 sendmsg:16 recvmsg:17
    accept4:18 recvmmsg:19 sendmmsg:20
""")
_IPC = syscall_table.parse("""
    semop:1 semget:2 semctl:3 semtimedop:4 msgsnd:11 msgrcv:12 msgget:13 msgctl:14 shmat:21 shmdt:22
    shmget:23 shmctl:24
""")


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
    profile = Profile(seconds=frozenset((I386.name, ARM.name)))
    held = {n for n, bit in capabilities.NUMBERS.items() if caps >> bit & 1}
    profile.add(seccomp_default.ALLOW, ALLOW)
    profile.add(seccomp_default.ALLOW_32, ALLOW)
    for capability, names in seccomp_default.WITH_CAPABILITY.items():
        if capability in held:
            profile.add(names.split(), ALLOW)
    if "SYS_ADMIN" not in held:
        flags = Condition(0, "SCMP_CMP_MASKED_EQ", 0, seccomp_default.CLONE_NAMESPACES)
        profile.add(["clone"], ALLOW, flags)
        # C libraries fall back to clone(2), whose flags a filter can see, only on ENOSYS.
        profile.add(["clone3"], ERRNO | ENOSYS)
    # The kernel reads 32 bits of the family: compared as 64, a stray upper bit would let it pass.
    for family in seccomp_default.FAMILIES_REFUSED:
        of_it = Condition(0, "SCMP_CMP_MASKED_EQ", family, 0xFFFFFFFF)
        profile.add(["socket"], ERRNO | EPERM, of_it)
    profile.add(["socket"], ALLOW)
    # socketcall(2) hides the family behind a pointer: who has both falls back to socket(2).
    sockets = Condition(0, "SCMP_CMP_EQ", _SOCKETCALL["socket"])
    profile.add(["socketcall"], ERRNO | ENOSYS, sockets)
    profile.add(["socketcall"], ALLOW)
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
        profile.seconds = _seconds(data)
        _multiplex(profile, "socketcall", _SOCKETCALL, _WORD)
        _multiplex(profile, "ipc", _IPC, 0xFFFF)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SpecInvalid(
            "security.seccomp",
            f"The seccomp profile cannot be read: {error!r}.",
            hint='Give "default", "unconfined" or a JSON profile with defaultAction and syscalls.',
        ) from error
    return profile


def _seconds(data: dict[str, Any]) -> frozenset[str]:
    """The architectures beside the host's: `architectures` of the OCI's profiles, `archMap` of Docker's."""
    names, maps = data.get("architectures") or [], data.get("archMap") or []
    if names and maps:
        raise ValueError("either architectures or archMap says what it is for, not both")
    own = ARCHES[this_machine()].name
    for entry in maps:
        if entry["architecture"] == own:
            names = entry.get("subArchitectures") or []
    for name in names:
        if not name.startswith("SCMP_ARCH_"):
            raise ValueError(f"{name!r} is no architecture")
    return frozenset(names)


def _multiplex(profile: Profile, name: str, calls: Mapping[str, int], mask: int) -> None:
    """Let what is said of `calls` hold where i386 has one call `name` for all, told which by its first argument.

    Their other arguments lie behind a pointer there. So a rule that asks for them allows nothing, and
    refuses whatever they are.
    """
    before, after = [], []
    for call, number in calls.items():
        this = (Condition(0, "SCMP_CMP_MASKED_EQ", number, mask),)
        for rule in profile.rules.get(call, ()):
            if rule.action not in (ALLOW, _LOG):
                before.append(Rule(rule.action, this))
            elif not rule.conditions:
                after.append(Rule(rule.action, this))
            if not rule.conditions:
                break
    if before or after:
        profile.rules[name] = [*before, *profile.rules.get(name, ()), *after]


def _action(name: str, errno: int | None) -> int:
    """The verdict; `errno` comes with SCMP_ACT_ERRNO, and to a tracer with SCMP_ACT_TRACE."""
    if name == "SCMP_ACT_NOTIFY":
        raise ValueError("SCMP_ACT_NOTIFY needs a program beside the container that decides")
    action = _ACTIONS[name]
    if action not in (ERRNO, _TRACE):
        return action
    number = EPERM if errno is None else int(errno)
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
    if data["op"] not in COMPARE:
        raise KeyError(data["op"])
    return Condition(index, data["op"], value)


def _applies(entry: dict[str, Any], caps: int) -> bool:
    arch = ARCHES[this_machine()].docker
    includes, excludes = entry.get("includes") or {}, entry.get("excludes") or {}
    has = {c for c in _caps(includes) | _caps(excludes) if caps >> capabilities.number(c) & 1}
    return (
        _caps(includes) <= has
        and not (_caps(excludes) & has)
        and (not includes.get("arches") or arch in includes["arches"])
        and arch not in (excludes.get("arches") or ())
        and kernel_is(includes.get("minKernel") or "0.0")
        and not (excludes.get("minKernel") and kernel_is(excludes["minKernel"]))
    )


def kernel_is(least: str) -> bool:
    """This kernel is `least` ("4.8") or newer."""
    return _version(os.uname().release) >= _version(least)


def _version(text: str) -> tuple[int, int]:
    if (found := re.match(r"(\d+)\.(\d+)", text, re.ASCII)) is None:
        raise ValueError(f"{text!r} is no version of a kernel")
    return int(found[1]), int(found[2])


def _caps(block: dict[str, Any]) -> set[str]:
    return set(block.get("caps") or ())
