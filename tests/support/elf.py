"""Programs of a few system calls, made of bytes: what no command of busybox does, without a compiler.

x86-64 and i386 only: who uses them skips their test elsewhere (`supported`).
"""

from __future__ import annotations

import os
import struct

from runtime.kernel.syscall_table import X86_64
from runtime.kernel.syscall_table_32 import I386

# The result of the call before, as an argument: a descriptor, most of the time.
RESULT = object()
Argument = int | bytes | object

supported = os.uname().machine == "x86_64"
AT_FDCWD = -100 & 0xFFFFFFFFFFFFFFFF
_EXIT = 60
# rdi rsi rdx r10 r8 r9, as (REX.W prefix of mov, opcode, REX.W prefix of lea, its ModRM byte)
_REGISTERS = (
    (0x48, 0xBF, 0x48, 0x3D), (0x48, 0xBE, 0x48, 0x35), (0x48, 0xBA, 0x48, 0x15),
    (0x49, 0xBA, 0x4C, 0x15), (0x49, 0xB8, 0x4C, 0x05), (0x49, 0xB9, 0x4C, 0x0D),
)  # fmt: skip
# ebx ecx edx esi edi ebp, as (opcode of mov from a constant, ModRM byte of mov from eax)
_REGISTERS_32 = (
    (0xBB, 0xC3), (0xB9, 0xC1), (0xBA, 0xC2), (0xBE, 0xC6), (0xBF, 0xC7), (0xBD, 0xC5),
)  # fmt: skip
_BASE_32 = 0x08048000  # where a 32-bit program lies
_FROM_RBX = (b"\x48\x89\xdf", b"\x48\x89\xde", b"\x48\x89\xda", b"\x49\x89\xda", b"\x49\x89\xd8")


def legacy(number: int) -> bytes:
    """A program of one system call by the 32-bit door (int 0x80), without arguments; exits as `program`'s do."""
    # xor ebx, ecx, edx, esi, edi; mov eax, number; int 0x80; neg eax; mov edi, eax; mov eax, exit; syscall
    code = b"\x31\xdb\x31\xc9\x31\xd2\x31\xf6\x31\xff\xb8" + struct.pack("<I", number)
    code += b"\xcd\x80\xf7\xd8\x89\xc7\xb8" + struct.pack("<I", _EXIT) + b"\x0f\x05"
    return _headers(len(code), b"") + code


def program(*calls: tuple[object, ...], interpreter: str = "") -> bytes:
    """An ELF that makes these calls, each (name or number, argument, …), up to the first that fails.

    Its exit code is 0, or that one's errno. `bytes` become a pointer to themselves and a NUL. Position
    independent, so that it serves as an interpreter (PT_INTERP) of another program, too; `interpreter` is the
    one that it names itself.
    """
    code = b""
    later: list[tuple[int, bytes]] = []  # where a displacement goes, and what it leads to
    ends: list[int] = []  # where a jump to the end has its displacement
    for name, *arguments in calls:
        for index, argument in enumerate(arguments):
            move, opcode, lea, mod = _REGISTERS[index]
            if argument is RESULT:
                code += _FROM_RBX[index]
            elif isinstance(argument, bytes):
                code += bytes((lea, 0x8D, mod)) + bytes(4)
                later.append((len(code) - 4, argument + b"\0"))
            else:
                assert isinstance(argument, int)
                code += bytes((move, opcode)) + struct.pack("<Q", argument & 0xFFFFFFFFFFFFFFFF)
        number = name if isinstance(name, int) else X86_64[str(name)]
        # mov eax, number; syscall; mov rbx, rax; test rbx, rbx; js end
        code += b"\xb8" + struct.pack("<I", number) + b"\x0f\x05"
        code += b"\x48\x89\xc3\x48\x85\xdb\x0f\x88" + bytes(4)
        ends.append(len(code) - 4)
    code += b"\x31\xdb"  # xor ebx, ebx
    for at in ends:
        code = code[:at] + struct.pack("<i", len(code) - at - 4) + code[at + 4 :]
    # neg ebx; mov edi, ebx; mov eax, exit; syscall
    code += b"\xf7\xdb\x89\xdf\xb8" + struct.pack("<I", _EXIT) + b"\x0f\x05"
    data = b""
    for at, text in later:
        displacement = len(code) + len(data) - at - 4
        code = code[:at] + struct.pack("<i", displacement) + code[at + 4 :]
        data += text
    return _headers(len(code) + len(data), interpreter.encode()) + code + data


def program32(*calls: tuple[object, ...]) -> bytes:
    """As `program`, a 32-bit ELF for i386, without an interpreter."""
    start = 52 + 32  # its two headers
    code = b""
    later: list[tuple[int, bytes]] = []  # where an address goes, and of what
    ends: list[int] = []
    for name, *arguments in calls:
        for index, argument in enumerate(arguments):
            move, from_eax = _REGISTERS_32[index]
            if argument is RESULT:
                code += bytes((0x89, from_eax))
            elif isinstance(argument, bytes):
                code += bytes((move, *bytes(4)))
                later.append((len(code) - 4, argument + b"\0"))
            else:
                assert isinstance(argument, int)
                code += bytes((move,)) + struct.pack("<I", argument & 0xFFFFFFFF)
        number = name if isinstance(name, int) else I386[str(name)]
        # mov eax, number; int 0x80; test eax, eax; js end
        code += b"\xb8" + struct.pack("<I", number) + b"\xcd\x80\x85\xc0\x0f\x88" + bytes(4)
        ends.append(len(code) - 4)
    code += b"\x31\xc0"  # xor eax, eax
    for at in ends:
        code = code[:at] + struct.pack("<i", len(code) - at - 4) + code[at + 4 :]
    # neg eax; mov ebx, eax; mov eax, exit; int 0x80
    code += b"\xf7\xd8\x89\xc3\xb8" + struct.pack("<I", I386["exit"]) + b"\xcd\x80"
    for at, text in later:
        address = _BASE_32 + start + len(code)
        code = code[:at] + struct.pack("<I", address) + code[at + 4 :] + text
    size, entry = start + len(code), _BASE_32 + start
    identity = b"\x7fELF\x01\x01\x01" + bytes(9)
    elf = struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, entry, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    segment = struct.pack("<IIIIIIII", 1, 0, _BASE_32, _BASE_32, size, size, 7, 0x1000)
    return identity + elf + segment + code


def _headers(size: int, interpreter: bytes) -> bytes:
    """Of a shared object with one segment: everything, writable and executable (elf(5))."""
    name = interpreter + b"\0" if interpreter else b""
    count = 2 if name else 1
    names_at = 64 + 56 * count
    base = names_at + len(name)
    identity = b"\x7fELF\x02\x01\x01" + bytes(9)
    elf = struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, base, 64, 0, 0, 64, 56, count, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 7, 0, 0, 0, base + size, base + size, 0x1000)
    named = struct.pack("<IIQQQQQQ", 3, 4, *[names_at] * 3, *[len(name)] * 2, 1) if name else b""
    return identity + elf + named + segment + name
