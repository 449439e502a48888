"""System calls that Python 3.11 has no function for: one typed function each.

Every function raises KernelFailure with the call's name, the errno and the path it was about. Sources:
the manual pages of the calls; numbers from the kernel's unified table (5.x and later agree on both
architectures) and unistd_64.h for older ones.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct
from typing import TYPE_CHECKING

from runtime.errors import KernelFailure
from runtime.kernel.constants import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    CLONE_PARENT,
    FSPICK_CLOEXEC,
    FSPICK_EMPTY_PATH,
    LINUX_CAPABILITY_VERSION_3,
    MADV_POPULATE_WRITE,
    MAP_ANONYMOUS,
    MAP_PRIVATE,
    MOVE_MOUNT_F_EMPTY_PATH,
    O_PATH,
    PR_SET_NAME,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    RENAME_NOREPLACE,
    SECCOMP_SET_MODE_FILTER,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.argtypes = [
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long
]  # fmt: skip
_libc.mmap.restype = ctypes.c_void_p
_MAP_FAILED = ctypes.c_void_p(-1).value
# Keeps the interpreter's lock during the call, as a fork must.
_python = ctypes.PyDLL(None, use_errno=True)
_python.syscall.argtypes = [ctypes.c_long, *[ctypes.c_ulong] * 5]
_python.syscall.restype = ctypes.c_long
# Declared once, so that a call converts no argument in Python: starts make some hundred of them.
_raw = ctypes.CDLL(None, use_errno=True).syscall
_raw.argtypes = [ctypes.c_long, *[ctypes.c_void_p] * 5]
_raw.restype = ctypes.c_long
_prctl = ctypes.CDLL(None, use_errno=True).prctl
_prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
_machine = os.uname().machine

# Calls without a wrapper in Debian 12's C library.
_NUMBERS = {
    "x86_64": {"clone": 56, "pivot_root": 155, "capget": 125, "capset": 126, "seccomp": 317},
    "aarch64": {"clone": 220, "pivot_root": 41, "capget": 90, "capset": 91, "seccomp": 277},
}[_machine if _machine in ("x86_64", "aarch64") else "x86_64"]
_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT, _FSPICK = 428, 429, 430, 431, 432, 433
_CLOSE_RANGE, _OPENAT2, _MOUNT_SETATTR = 436, 437, 442


def _check(result: int, call: str, path: str = "") -> int:
    if result < 0:
        raise KernelFailure(call, ctypes.get_errno(), path)
    return result


def _syscall(
    call: str,
    number: int,
    a: object = 0,
    b: object = 0,
    c: object = 0,
    d: object = 0,
    e: object = 0,
    *,
    path: str = "",
) -> int:
    """With numbers, bytes (a pointer to them, ended by a NUL), buffers or None."""
    return _check(int(_raw(number, a, b, c, d, e)), call, path)


def unshare(flags: int) -> None:
    """unshare(2): leave the namespaces in `flags` (CLONE_NEW*) for new ones."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare", hex(flags))


def fork_sibling(namespaces: int = 0) -> int:
    """fork, but the child is a child of our own parent (clone(2) with CLONE_PARENT), in new `namespaces` (CLONE_NEW*).

    For a single-threaded process. Returns 0 in the child.
    """
    return fork_by(_clone, CLONE_PARENT | namespaces | signal.SIGCHLD)


def _clone(flags: int) -> int:
    pid = int(_python.syscall(_NUMBERS["clone"], flags, 0, 0, 0, 0))
    return pid if pid >= 0 else -ctypes.get_errno()


def fork_by(clone: Callable[[int], int], flags: int) -> int:
    """What `clone(flags)` forks, which returns the pid, 0 in the child, or an errno with a minus.

    The C library's fork handlers, which guard its locks against other threads, are not run; the interpreter's are.
    """
    _python.PyOS_BeforeFork()
    pid = clone(flags)
    if pid == 0:
        _python.PyOS_AfterFork_Child()
        return 0
    _python.PyOS_AfterFork_Parent()
    if pid < 0:
        raise KernelFailure("clone", -pid)
    return pid


def setns(fd: int, kind: int = 0) -> None:
    """setns(2): join the namespace behind `fd`; `kind` (CLONE_NEW*) makes sure it is that one."""
    _check(_libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)), "setns", f"fd {fd}")


def mount(source: str, target: str, fstype: str, flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    _check(
        _libc.mount(
            os.fsencode(source),
            os.fsencode(target),
            fstype.encode() if fstype else None,
            ctypes.c_ulong(flags),
            os.fsencode(data) if data else None,
        ),
        "mount",
        target,
    )


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc.umount2(os.fsencode(target), ctypes.c_int(flags)), "umount2", target)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2); with "." twice the old root ends up below the new one and can be detached."""
    _syscall(
        "pivot_root",
        _NUMBERS["pivot_root"],
        os.fsencode(new_root),
        os.fsencode(put_old),
        path=new_root,
    )


def prctl(option: int, arg2: int = 0, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    """prctl(2)."""
    result = int(_prctl(option, arg2, arg3, arg4, arg5))
    return result if result >= 0 else _check(result, "prctl", str(option))


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) for the calling thread; masks of 1 << capability number."""
    header = ctypes.create_string_buffer(struct.pack("=Ii", LINUX_CAPABILITY_VERSION_3, 0))
    low, high = 0xFFFFFFFF, 32
    data = ctypes.create_string_buffer(
        struct.pack(
            "=6I",
            effective & low,
            permitted & low,
            inheritable & low,
            effective >> high,
            permitted >> high,
            inheritable >> high,
        )
    )
    _syscall("capset", _NUMBERS["capset"], header, data)


def seccomp_set_filter(program: bytes, flags: int = 0) -> None:
    """seccomp(2), SECCOMP_SET_MODE_FILTER; `program` is an array of struct sock_filter (8 bytes each)."""
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog { unsigned short len; struct sock_filter *filter; }, padded to pointer size
    fprog = ctypes.create_string_buffer(
        struct.pack("=H6xQ", len(program) // 8, ctypes.addressof(code))
    )
    _syscall("seccomp", _NUMBERS["seccomp"], SECCOMP_SET_MODE_FILTER, flags, fprog)


def set_fs_ids(uid: int, gid: int) -> None:
    """setfsuid(2) and setfsgid(2): whose files this process makes. They report no error, so look."""
    _libc.setfsgid(ctypes.c_uint(gid))
    _libc.setfsuid(ctypes.c_uint(uid))
    # -1 is no id: both calls change nothing and return the present one.
    now = _libc.setfsuid(ctypes.c_uint(-1)), _libc.setfsgid(ctypes.c_uint(-1))
    if now != (uid, gid):
        raise KernelFailure("setfsuid", errno.EPERM, f"{uid}:{gid}")


def sethostname(name: str) -> None:
    raw = name.encode()
    _check(_libc.sethostname(raw, ctypes.c_size_t(len(raw))), "sethostname", name)


def setdomainname(name: str) -> None:
    raw = name.encode()
    _check(_libc.setdomainname(raw, ctypes.c_size_t(len(raw))), "setdomainname", name)


def close_range(first: int, last: int, flags: int = 0) -> None:
    """close_range(2): close, or with CLOSE_RANGE_CLOEXEC mark, every descriptor from first to last."""
    _syscall("close_range", _CLOSE_RANGE, first, last, flags)


def openat2(directory: int, path: str, flags: int, *, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2): open below `directory` under the rules in `resolve` (RESOLVE_*). Returns a descriptor."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, resolve)
    return _syscall(
        "openat2",
        _OPENAT2,
        directory,
        os.fsencode(path),
        how,
        24,
        path=path,
    )


def open_tree(path: str, flags: int, directory: int = AT_FDCWD) -> int:
    """open_tree(2); with OPEN_TREE_CLONE a detached copy of the mount. Returns a descriptor."""
    name = os.fsencode(path)
    return _syscall("open_tree", _OPEN_TREE, directory, name, flags, path=path)


def move_mount(source: int, target: str, target_directory: int = AT_FDCWD, flags: int = 0) -> None:
    """move_mount(2): attach the detached mount `source` at `target`."""
    _syscall(
        "move_mount",
        _MOVE_MOUNT,
        source,
        b"",
        target_directory,
        os.fsencode(target),
        MOVE_MOUNT_F_EMPTY_PATH | flags,
        path=target,
    )


def mount_setattr(
    directory: int,
    path: str,
    *,
    attr_set: int = 0,
    attr_clear: int = 0,
    propagation: int = 0,
    userns_fd: int = 0,
    flags: int = AT_EMPTY_PATH,
) -> None:
    """mount_setattr(2) (Linux 5.12): MOUNT_ATTR_* on one mount, or the tree with AT_RECURSIVE."""
    attributes = struct.pack("=QQQQ", attr_set, attr_clear, propagation, userns_fd)
    _syscall(
        "mount_setattr",
        _MOUNT_SETATTR,
        directory,
        os.fsencode(path),
        flags,
        attributes,
        32,
        path=path,
    )


def fsopen(fstype: str) -> int:
    """fsopen(2). Returns a file system context's descriptor."""
    return _syscall("fsopen", _FSOPEN, fstype.encode(), 1, path=fstype)


def fsconfig(fd: int, command: int, key: str = "", value: str = "") -> None:
    """fsconfig(2) with a string value, a flag or a command."""
    _syscall(
        "fsconfig",
        _FSCONFIG,
        fd,
        command,
        key.encode() if key else None,
        os.fsencode(value) if value else None,
        0,
        path=f"{key}={value}" if value else key,
    )


def fspick(fd: int, path: str = "") -> int:
    """fspick(2) of the mount whose root `fd` is; `path` is for errors. Returns a context to reconfigure."""
    flags = FSPICK_CLOEXEC | FSPICK_EMPTY_PATH
    return _syscall("fspick", _FSPICK, fd, b"", flags, path=path)


def fsmount(fd: int, attributes: int = 0) -> int:
    """fsmount(2): a detached mount of the configured file system. Returns a descriptor."""
    return _syscall("fsmount", _FSMOUNT, fd, 1, attributes)


def open_path(path: str) -> int:
    """An O_PATH descriptor, following no final link. Raises OSError."""
    return os.open(path, O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)


def set_thread_name(name: str) -> None:
    """prctl(PR_SET_NAME): /proc/<pid>/comm, also where that file is not ours to open."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    prctl(PR_SET_NAME, ctypes.addressof(buffer))


def populate(start: int, length: int) -> None:
    """madvise(2) with MADV_POPULATE_WRITE (Linux 5.14): copy what is shared of this process's pages now, not when it
    is written to.
    """
    _check(
        _libc.madvise(
            ctypes.c_void_p(start), ctypes.c_size_t(length), ctypes.c_int(MADV_POPULATE_WRITE)
        ),
        "madvise",
    )


def map_code(code: bytes) -> int:
    """Where `code` lies in new memory that is executed, and not written to any more (mmap(2), mprotect(2))."""
    size = len(code)
    address = _libc.mmap(None, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    if address == _MAP_FAILED:
        raise KernelFailure("mmap", ctypes.get_errno())
    ctypes.memmove(address, code, size)
    _check(
        _libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), PROT_READ | PROT_EXEC),
        "mprotect",
    )
    return int(address)


def overwrite(address: int, data: bytes) -> None:
    """Put `data` at an address of this process: the caller knows that all of it is the process's to write."""
    ctypes.memmove(address, data, len(data))


def filesystem_type(fd: int) -> int:
    """fstatfs(2): the magic number of the file system that `fd` is on (linux/magic.h)."""
    facts = ctypes.create_string_buffer(256)
    _check(_libc.fstatfs(ctypes.c_int(fd), facts), "fstatfs", f"fd {fd}")
    return int(struct.unpack_from("=q", facts)[0])


def rename_new(source: str, target: str) -> None:
    """renameat2(2) that replaces nothing: EEXIST when there is something at `target`, be it an empty directory."""
    result = _libc.renameat2(
        ctypes.c_int(AT_FDCWD),
        os.fsencode(source),
        ctypes.c_int(AT_FDCWD),
        os.fsencode(target),
        ctypes.c_uint(RENAME_NOREPLACE),
    )
    _check(result, "renameat2", target)


def syncfs(fd: int) -> None:
    """syncfs(2): write everything of the file system that holds `fd` to its disk."""
    _check(_libc.syncfs(ctypes.c_int(fd)), "syncfs", f"fd {fd}")
