"""A process that goes on in the place and in the memory of another one, which sleeps and keeps that memory.

An execve takes the memory of its process down before it is through, when nobody else has it: of a fork of ours, some
3,000 pages, that is 0.8 ms of a container's start. With its predecessor still there execve leaves it alone, and
whoever kills the predecessor afterwards has it taken down by that one.
"""

from __future__ import annotations

import ctypes
import os
import signal

from runtime.errors import KernelFailure
from runtime.kernel import constants as c
from runtime.kernel import syscalls

# Both processes have one stack, so that the first may not even return from clone(2): no code of the interpreter's, or
# of the C library's, will do. long code(unsigned long flags):
_CODE = {
    "x86_64": bytes.fromhex(
        "31f6 31d2 4531d2 4531c0"  # xor %esi,%esi; xor %edx,%edx; xor %r10d,%r10d; xor %r8d,%r8d
        "b838000000 0f05"  #         mov $56,%eax; syscall       clone(flags, 0, 0, 0, 0)
        "4885c0 7f01 c3"  #          test %rax,%rax; jg 1f; ret  in the successor, or without one
        "31ff beffffffff 31d2"  # 1: xor %edi,%edi; mov $-1,%esi; xor %edx,%edx
        "b8b4010000 0f05"  #         mov $436,%eax; syscall      close_range(0, ~0, 0)
        "b822000000 0f05 ebf7"  # 2: mov $34,%eax; syscall; jmp 2b             pause()
    )
}
_Code = ctypes.PYFUNCTYPE(
    ctypes.c_long, ctypes.c_ulong
)  # called with the interpreter's lock, as a fork must be


def go_on_in_successor(namespaces: int, parent: int) -> None:
    """Return in a new process, a child of our `parent` in new `namespaces` (CLONE_NEW*). We sleep, without any open
    descriptor, until we are killed, at the latest by the end of our parent.

    For a single-threaded process. Where nobody has written the code for this processor, or the host lets nobody make
    code, there is no sleeping predecessor: we end. Raises KernelFailure, and has not been replaced.
    """
    try:
        code = syscalls.map_code(_CODE[os.uname().machine])
    except (KeyError, KernelFailure):
        if syscalls.fork_sibling(namespaces):
            os._exit(0)
        return
    syscalls.prctl(c.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)  # it had ended before
    # A handler would run on a stack that is not ours any more.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    syscalls.fork_by(_Code(code), c.CLONE_VM | c.CLONE_PARENT | namespaces | signal.SIGCHLD)
