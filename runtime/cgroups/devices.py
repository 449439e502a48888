"""Which devices a container may open or make, on v2: the rules of v1's controller as a BPF program.

v2 has no files for devices: a program of type BPF_PROG_TYPE_CGROUP_DEVICE decides, called with
struct bpf_cgroup_dev_ctx {access << 16 | type, major, minor} (Documentation/bpf, cgroup-v2.rst "Device
controller"). It allows what a rule allows, and nothing else.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence

from runtime.errors import KernelFailure, Unsupported
from runtime.kernel import bpf

_TYPES = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}
_EVERYTHING = 7

_LOAD, _MOVE_K, _MOVE_X, _AND_K, _SHIFT_K = 0x61, 0xB7, 0xBF, 0x57, 0x77
_JUMP_NOT_EQUAL, _EXIT = 0x55, 0x95
_ANSWER, _CONTEXT, _TYPE, _WANTED, _MAJOR, _MINOR = 0, 1, 2, 3, 4, 5  # registers


def device_program(rules: Sequence[str]) -> bytes:
    """struct bpf_insn[] of rules such as "c 1:3 rwm" and "a *:* rwm"."""
    code = [
        _op(_LOAD, _TYPE, source=_CONTEXT, offset=0),
        _op(_MOVE_X, _WANTED, source=_TYPE),
        _op(_AND_K, _TYPE, value=0xFFFF),
        _op(_SHIFT_K, _WANTED, value=16),
        _op(_LOAD, _MAJOR, source=_CONTEXT, offset=4),
        _op(_LOAD, _MINOR, source=_CONTEXT, offset=8),
    ]
    for rule in rules:
        made = _rule(rule)
        code += made
        if len(made) == 2:
            # It allows everything, and the kernel refuses code that is never reached.
            return b"".join(code)
    code += [_op(_MOVE_K, _ANSWER, value=0), _op(_EXIT)]
    return b"".join(code)


def _rule(rule: str) -> list[bytes]:
    """Answer 1 when everything matches; jump to the next rule when something does not."""
    kind, numbers, access = rule.split()
    major, _, minor = numbers.partition(":")
    checks: list[tuple[int, int]] = []  # (register, what it must be)
    code: list[bytes] = []
    if kind != "a":
        checks.append((_TYPE, _TYPES[kind]))
    checks += [(r, int(n)) for r, n in ((_MAJOR, major), (_MINOR, minor)) if n != "*"]
    refused = _EVERYTHING & ~sum(_ACCESS[a] for a in set(access))
    length = len(checks) + (3 if refused else 0) + 2
    for register, value in checks:
        code.append(_op(_JUMP_NOT_EQUAL, register, offset=length - len(code) - 1, value=value))
    if refused:
        code += [
            _op(_MOVE_X, _ANSWER, source=_WANTED),
            _op(_AND_K, _ANSWER, value=refused),
        ]
        code.append(_op(_JUMP_NOT_EQUAL, _ANSWER, offset=length - len(code) - 1, value=0))
    return [*code, _op(_MOVE_K, _ANSWER, value=1), _op(_EXIT)]


def _op(code: int, target: int = 0, *, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("=BBhi", code, source << 4 | target, offset, value)


def confine_devices(directory: str, rules: Sequence[str]) -> None:
    """Hold the group to `rules`. Raises Unsupported when this kernel has no such programs."""
    program = _loaded(tuple(rules))
    try:
        bpf.attach_device_program(directory, program)
    finally:
        if program not in _kept.values():
            os.close(program)  # the group holds it now


# Loading one takes milliseconds, attaching it microseconds; nearly all containers have the same rules.
_kept: dict[tuple[str, ...], int] = {}
_MOST_KEPT = 16


def _loaded(rules: tuple[str, ...]) -> int:
    if rules in _kept:
        return _kept[rules]
    try:
        program = bpf.load_device_program(device_program(rules))
    except KernelFailure as error:
        raise Unsupported(
            "Confining a container's devices",
            "a kernel with CONFIG_CGROUP_BPF, and CAP_BPF or CAP_SYS_ADMIN",
            hint="A privileged container is not confined.",
            cause=error.message,
        ) from error
    if len(_kept) < _MOST_KEPT:
        _kept[rules] = program
    return program
