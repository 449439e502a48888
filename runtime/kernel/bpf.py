"""bpf(2), as far as confining a cgroup's devices takes. Source: bpf(2), include/uapi/linux/bpf.h."""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from runtime.errors import KernelFailure

_libc = ctypes.CDLL(None, use_errno=True)
_BPF = {"x86_64": 321, "aarch64": 280}.get(os.uname().machine, 321)
_PROG_LOAD, _PROG_ATTACH = 5, 8
_PROG_TYPE_CGROUP_DEVICE = 15
_ATTACH_CGROUP_DEVICE = 6
_F_ALLOW_MULTI = 2
_LOG_SIZE = 65536


def load_device_program(code: bytes) -> int:
    """Load a program of type BPF_PROG_TYPE_CGROUP_DEVICE (struct bpf_insn[]). Returns its descriptor.

    Raises KernelFailure; with what the kernel's verifier said when it refused the program.
    """
    program = ctypes.create_string_buffer(code, len(code))
    # Its helpers are none that a licence would matter to.
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    attributes = struct.pack(
        "=IIQQIIQII",
        _PROG_TYPE_CGROUP_DEVICE,
        len(code) // 8,
        ctypes.addressof(program),
        ctypes.addressof(licence),
        0,
        0,
        0,
        0,
        0,
    )
    try:
        return _bpf(_PROG_LOAD, attributes)
    except KernelFailure as error:
        if error.errno not in (errno.EINVAL, errno.EACCES):
            raise
    log = ctypes.create_string_buffer(_LOG_SIZE)
    said = struct.pack("=IIQ", 1, _LOG_SIZE, ctypes.addressof(log))
    try:
        return _bpf(_PROG_LOAD, attributes[:24] + said + attributes[40:])
    except KernelFailure as error:
        raise KernelFailure(
            "bpf", error.errno, "BPF_PROG_LOAD", verifier=log.value.decode(errors="replace")[-2000:]
        ) from error


def attach_device_program(directory: str, program: int) -> None:
    """Let `program` decide about devices in the cgroup v2 group `directory`; it goes with the group.

    Programs of groups above keep deciding as well. Raises KernelFailure.
    """
    try:
        group = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelFailure("open", error.errno or 0, directory) from error
    try:
        _bpf(
            _PROG_ATTACH,
            struct.pack("=IIIII", group, program, _ATTACH_CGROUP_DEVICE, _F_ALLOW_MULTI, 0),
            directory,
        )
    finally:
        os.close(group)


def _bpf(command: int, attributes: bytes, path: str = "") -> int:
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    number, size = ctypes.c_long(_BPF), ctypes.c_uint(len(attributes))
    result = int(_libc.syscall(number, ctypes.c_int(command), buffer, size))
    if result < 0:
        raise KernelFailure("bpf", ctypes.get_errno(), path)
    return result
