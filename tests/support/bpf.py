"""An interpreter of seccomp's BPF, to ask a compiled filter what it would say."""

from __future__ import annotations

import struct

_LD, _AND, _JA, _JEQ, _JGT, _JGE, _RET = 0x20, 0x54, 0x05, 0x15, 0x25, 0x35, 0x06
X86_64, AARCH64, I386, ARM = 0xC000003E, 0xC00000B7, 0x40000003, 0x40000028


def evaluate(program: bytes, number: int, *args: int, arch: int = X86_64) -> int:
    """The filter's return value for system call `number` with `args` (64 bits each).

    Fails as the kernel's checker does: on a jump out of the program or an end without a return.
    """
    padded = (*args, *(0,) * (6 - len(args)))
    data = struct.pack("=IIQ6Q", number, arch, 0, *padded)
    code = list(struct.iter_unpack("=HBBI", program))
    accumulator = position = 0
    while True:
        operation, if_true, if_false, constant = code[position]
        position += 1
        if operation == _LD:
            accumulator = struct.unpack_from("=I", data, constant)[0]
        elif operation == _AND:
            accumulator &= constant
        elif operation == _JA:
            position += constant
        elif operation == _RET:
            return int(constant)
        else:
            holds = {
                _JEQ: accumulator == constant,
                _JGT: accumulator > constant,
                _JGE: accumulator >= constant,
            }[operation]
            position += if_true if holds else if_false
