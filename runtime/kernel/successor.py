"""A process that goes on in the place and in the memory of another one, which sleeps and keeps that memory.

An execve takes the memory of its process down before it is through, when nobody else has it: of a fork of ours, some
3,000 pages, that is 0.8 ms of a container's start. With its predecessor still there execve leaves it alone, and
whoever kills the predecessor afterwards has it taken down by that one.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # without the enumerations of signal, which are slow
import ctypes
import os

from runtime.errors import KernelFailure
from runtime.kernel import constants as c
from runtime.kernel import syscalls

# Both processes have one stack, so that the first may not even return from clone(2): no code of the interpreter's, or
# of the C library's, will do. long code(unsigned long flags, int *pid):
_CODE = {
    "x86_64": bytes.fromhex(
        "4889f2 31f6 4531d2 4531c0"  # mov %rsi,%rdx; xor %esi,%esi; xor %r10d,%r10d; xor %r8d,%r8d
        "b838000000 0f05"  #         mov $56,%eax; syscall       clone(flags, 0, pid, 0, 0)
        "4885c0 7f01 c3"  #          test %rax,%rax; jg 1f; ret  in the successor, or without one
        "31ff beffffffff 31d2"  # 1: xor %edi,%edi; mov $-1,%esi; xor %edx,%edx
        "b8b4010000 0f05"  #         mov $436,%eax; syscall      close_range(0, ~0, 0)
        "b822000000 0f05 ebf7"  # 2: mov $34,%eax; syscall; jmp 2b             pause()
    )
}
# Called with the interpreter's lock, as a fork must be.
_Code = ctypes.PYFUNCTYPE(ctypes.c_long, ctypes.c_ulong, ctypes.c_void_p)
_MAX_PID = 16  # digits


def go_on_in_successor(namespaces: int, parent: int) -> int:
    """Return in a new process, a child of our `parent` in new `namespaces` (CLONE_NEW*), with its pid as we see it. We
    sleep, without any open descriptor, until we are killed, at the latest by the end of our parent.

    For a single-threaded process. Where nobody has written the code for this processor, or the host lets nobody make
    code, there is no sleeping predecessor: we end. Raises KernelFailure, and has not been replaced.
    """
    try:
        code = syscalls.map_code(_CODE[os.uname().machine])
    except (KeyError, KernelFailure):
        return _leave_to_fork(namespaces)
    syscalls.prctl(c.PR_SET_PDEATHSIG, _signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)  # it had ended before
    # A handler would run on a stack that is not ours any more.
    _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
    pid = ctypes.c_int()
    syscalls.fork_by(
        lambda flags: int(_Code(code)(flags, ctypes.addressof(pid))),
        c.CLONE_VM | c.CLONE_PARENT | c.CLONE_PARENT_SETTID | namespaces | _signal.SIGCHLD,
    )
    return pid.value  # written before the successor runs


def _leave_to_fork(namespaces: int) -> int:
    told, tell = os.pipe2(os.O_CLOEXEC)
    pid = syscalls.fork_sibling(namespaces)
    if pid:
        os.write(tell, str(pid).encode())
        os._exit(0)
    pid = int(os.read(told, _MAX_PID))
    os.close(told)
    os.close(tell)
    return pid
